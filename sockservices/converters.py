"""Converters from the text of a command line to values, with errors of one clear line.

Every converter also accepts the value that it would return, so that an embedder can pass an
``int`` where an operator types digits.
"""

from __future__ import annotations

import grp
import math
import os
import pwd
import re
import shlex
import stat
from collections.abc import Callable

from sockservices.printable import escaped, system_reason

_TRUE = {"yes", "true", "on", "1"}
_FALSE = {"no", "false", "off", "0"}
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "0": "\0", "\\": "\\"}
_NOBODY = (1 << 32) - 1  # the ID that no user and no group has
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|.|$)", re.DOTALL)


def whole_number(least: int | None = None, most: int | None = None) -> Callable[[str | int], int]:
    """Return a converter to an ``int`` from ``least`` to ``most``, both included.

    The converter raises ``ValueError`` with the value and the range.
    """
    if least is not None and most is not None:
        wanted = f"a whole number from {least} to {most}"
    elif least is not None:
        wanted = f"a whole number, {least} or more"
    else:
        wanted = "a whole number"

    def convert(value: str | int) -> int:
        is_text = isinstance(value, str)
        if is_text and re.fullmatch(r"[+-]?[0-9]+", str(value)) is None:
            raise ValueError(f"{value!r} is not {wanted}")
        if not (is_text or isinstance(value, int)):
            raise ValueError(f"{value!r} is not {wanted}")
        number = int(value)
        if (least is not None and number < least) or (most is not None and number > most):
            raise ValueError(f"{value} is not {wanted}")
        return number

    return convert


def number(value: str | float) -> float:
    """Convert a number; raise ``ValueError`` if it is not one."""
    try:
        return float(value)
    except ValueError:
        raise ValueError(f"{value!r} is not a number") from None


def seconds(value: str | float) -> float:
    """Convert a number of seconds, 0 or more; raise ``ValueError`` for others."""
    try:
        number = float(value)
    except (ValueError, TypeError, OverflowError):
        raise ValueError(f"{value!r} is not a number of seconds, such as 2 or 0.5") from None
    if not 0 <= number < math.inf:
        raise ValueError(f"{value!r} is not a number of seconds, 0 or more")
    return number


def octal_mode(value: str | int) -> int:
    """Convert octal digits such as ``660`` to a file mode; raise ``ValueError`` for others."""
    if isinstance(value, int):
        if 0 <= value <= 0o777:
            return value
        raise ValueError(f"{value:#o} is not a file mode: 0o000 to 0o777")
    if re.fullmatch(r"(0o)?0*[0-7]{1,3}", value) is None:
        raise ValueError(f"{value!r} is not a file mode: octal digits, 000 to 777, such as 660")
    return int(value, 8)


def name_and_value(text: str, form: str) -> tuple[str, str]:
    """Convert ``NAME=VALUE`` to a pair, with the name spelled as a Python argument.

    Parameters:
        text: the text to convert.
        form: the expected form, for the error.
    """
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise ValueError(f"{text!r} is not {form}")
    return name.replace("-", "_"), value


def yes_or_no(value: str | bool) -> bool:
    """Convert ``yes`` or ``no`` (``true``, ``on``, ``1``; ``false``, ``off``, ``0``) to a bool."""
    if isinstance(value, bool):
        return value
    text = str(value).lower()
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError(f"{value!r} is neither yes nor no")


def some_seconds(value: str | float) -> float:
    """Convert a number of seconds, more than 0; raise ``ValueError`` for others."""
    found = seconds(value)
    if not found:
        raise ValueError(f"{value!r} is not a number of seconds, more than 0")
    return found


def one_of(*choices: str) -> Callable[[str], str]:
    """Return a converter that accepts exactly these words."""

    def convert(value: str) -> str:
        if value not in choices:
            raise ValueError(f"{value!r} is not one of {', '.join(choices)}")
        return value

    return convert


def text_with_escapes(value: str) -> str:
    r"""Replace ``\n \r \t \0 \\ \xHH`` with the characters they stand for.

    A shell passes ``'hello\n'`` with the backslash. Text without a backslash is not changed. Raises
    ``ValueError`` for any other escape.
    """

    def character(match: re.Match[str]) -> str:
        escape = match[1]
        if len(escape) == 3:
            return chr(int(escape[1:], 16))
        if escape not in _ESCAPES:
            raise ValueError(
                f"in {value!r}, {match[0]!r} is not an escape: use \\n \\r \\t \\0 \\\\ \\xHH"
            )
        return _ESCAPES[escape]

    return _ESCAPE.sub(character, value)


def readable_file(value: str | os.PathLike[str]) -> str:
    """Convert the path of a readable regular file to an absolute path.

    Absolute, because ``twistd`` changes its working directory after it starts. Raises
    ``ValueError`` with the reason, also for a pipe or a device, which can be read only once or
    never ends.
    """
    path = os.path.abspath(os.fspath(value))
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ValueError(f"{escaped(str(value))} is not a regular file")
        os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        raise ValueError(f"{escaped(str(value))}: {system_reason(error)}") from None
    return path


def readable_file_or_directory(value: str | os.PathLike[str]) -> str:
    """Convert the path of a directory, or as ``readable_file`` does, to an absolute path."""
    path = os.path.abspath(os.fspath(value))
    return path if os.path.isdir(path) else readable_file(value)


def separated(text: str) -> list[str]:
    """Split text at whitespace, except within quotes.

    Raises ``ValueError`` for a quote that is not closed.
    """
    lexer = shlex.shlex(text, posix=True, punctuation_chars=False)
    lexer.whitespace_split = True
    lexer.commenters = lexer.escape = ""  # a backslash is part of an endpoint description
    try:
        return list(lexer)
    except ValueError:
        raise ValueError(f"{text!r} has a quote that is not closed") from None


def user_id(value: str | int) -> int:
    """Convert the name or ID of a user; raise ``ValueError`` if there is none."""
    return _id(value, "user", lambda name: pwd.getpwnam(name).pw_uid)


def group_id(value: str | int) -> int:
    """Convert the name or ID of a group; raise ``ValueError`` if there is none."""
    return _id(value, "group", lambda name: grp.getgrnam(name).gr_gid)


def _id(value: str | int, what: str, look_up: Callable[[str], int]) -> int:
    text = str(value)
    if text.isascii() and text.isdecimal() and int(text) < _NOBODY:
        return int(text)
    try:
        return look_up(text)
    except (KeyError, ValueError, UnicodeError):
        raise ValueError(f"there is no {what} {text!r}") from None
