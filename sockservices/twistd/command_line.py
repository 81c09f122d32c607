"""The command line of ``twistd`` itself, which surrounds a service's options."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Callable, Sequence
from getopt import GetoptError, getopt
from typing import Any

from twisted.application.app import ServerOptions
from twisted.python import usage

from sockservices.errors import why_no_path
from sockservices.printable import escaped, system_reason
from sockservices.suggestions import did_you_mean
from sockservices.twistd.log_observer import observer_for
from sockservices.twistd.pid_file import remove_stale_pid_file


def goes_to_background(options: usage.Options) -> bool:
    """Whether ``twistd`` will run in the background."""
    top = _top(options)
    return isinstance(top, ServerOptions) and not (top["nodaemon"] or top["debug"])


def is_debugging() -> bool:
    """Whether an author runs a service: ``twistd`` has ``--debug`` or ``-b``, or ``--reload``."""
    words = sys.argv[1:]
    return bool({"--debug", "--reload"}.intersection(words)) or any(
        re.fullmatch(r"-[beno]*b[beno]*", each)
        for each in words  # together with other flags
    )


def hint(options: usage.Options, error: str, words: Sequence[str]) -> str:
    """Return what may be meant by an option that does not exist, or an empty string.

    Parameters:
        options: the options that do not have it.
        error: the text of the error of getopt.
        words: the command line of these options.
    """
    match = re.fullmatch(r"option (-(-?)(\S+)) (?:not recognized|not a unique prefix)", error)
    if match is None:
        return ""
    option, is_long, name = match.groups()
    names = [each.rstrip("=") for each in options.longOpt]
    if not is_long:
        for word in words:
            if word.startswith(option) and len(word) > len(option):  # -port for --port
                return did_you_mean(word[1:].partition("=")[0], names, "--")
    top = _top(options)
    above = {each.rstrip("=") for each in top.longOpt} if is_long else set(top.shortOpt)
    if options is not top and name in above:
        return f"; it goes before {top.subCommand}"  # an option of twistd
    begun = [f"--{each}" for each in names if each.startswith(name)]
    if is_long and len(begun) > 1:
        return f": {', '.join(begun)}"
    return did_you_mean(name, names, "--")


def write_no_pid_file_unasked(options: usage.Options) -> None:
    """Stop ``twistd -n`` from writing a PID file, unless its path was given.

    Whoever runs a service in the foreground knows its process ID. The file would be in the current
    directory, which may be read-only.
    """
    top = _top(options)
    is_twistd = isinstance(top, ServerOptions) and "pidfile" in top
    if not is_twistd or goes_to_background(options) or _asks_for(top, "pidfile"):
        return
    top["pidfile"] = ""


def pid_file(options: usage.Options) -> str:
    """Return the path of the PID file, or an empty string."""
    path: str = _top(options).get("pidfile") or ""
    return path


def check_paths(options: usage.Options) -> None:
    """Check the paths among the options of ``twistd``, which shows a traceback if one is unusable.

    In the background, ``twistd`` shows it only in the log. This removes a stale PID file.

    Raises ``UsageError`` for a path that cannot be used, and ``RunningError`` for the PID file of a
    running process.
    """
    top = _top(options)
    if not isinstance(top, ServerOptions) or "pidfile" not in top:
        return
    root, folder = top["chroot"], top["rundir"]
    checks: list[tuple[str, str | None, Callable[[str], object]]] = [
        ("logfile", _log_file(top), _check_file),
        ("chroot", root, _check_root),
        # A relative one is found from the present directory, even with --chroot.
        ("rundir", _below(root, folder) if os.path.isabs(folder) else folder, _check_directory),
        ("pidfile", top["pidfile"], lambda path: remove_stale_pid_file(path, top)),
        ("pidfile", _below(root, top["pidfile"]), _check_file),
    ]
    for name, path, check in checks:
        if not path:
            continue
        try:
            check(path)
        except (OSError, ValueError) as error:
            reason = system_reason(error) if isinstance(error, OSError) else str(error)
            raise usage.UsageError(f"--{name}: {escaped(path)}: {reason}") from None


def use_our_log_observer(options: usage.Options) -> None:
    """Let ``twistd`` write its log through our observer, unless another one was asked for."""
    top = _top(options)
    if not isinstance(top, ServerOptions) or top["syslog"] or top["logger"] is not None:
        return
    if top["logfile"] == "-" and goes_to_background(top):  # twistd refuses that
        return
    top["logger"] = observer_for(_log_file(top))


def _log_file(top: ServerOptions) -> str | None:
    """Return the path of the log file, or ``None`` if ``twistd`` writes none."""
    if top["syslog"] or top["logger"] is not None or top["logfile"] == "-":
        return None
    return top["logfile"] or ("twistd.log" if goes_to_background(top) else None)


def _below(root: str | None, path: str) -> str:
    """Return a path as it is named before ``twistd`` changes the root directory."""
    if root is None or not path:
        return path
    return os.path.join(root, os.path.abspath(path).lstrip("/"))


def _check_file(path: str) -> None:
    """Raise ``OSError`` or ``ValueError`` for a file that cannot be opened or created."""
    try:
        os.stat(path)
    except FileNotFoundError:
        real = os.path.realpath(path)  # a symbolic link may lead to no file
        try:
            tempfile.TemporaryFile(dir=os.path.dirname(real)).close()
        except OSError as error:
            raise ValueError(why_no_path(os.fsencode(real), error)) from None
    else:
        open(path, "rb+", 0).close()


def _check_root(path: str) -> None:
    _check_directory(path)
    os.chroot("/")  # which changes nothing


def _check_directory(path: str) -> None:
    os.stat(os.path.join(path, "."))  # raises an error also if it may not be entered


def command_again(options: usage.Options) -> list[str]:
    """Return the command line of this process, without a PID file."""
    top = _top(options)
    _options, rest = _parsed_again(top)
    no_file = ["--pidfile="] if isinstance(top, ServerOptions) else []
    # The original arguments: python -m twisted searches other paths for modules than its file.
    return [sys.executable, *sys.orig_argv[1 : -len(rest)], *no_file, *rest]


def _top(options: Any) -> Any:
    while options.parent is not None:
        options = options.parent
    return options


def _parsed_again(top: usage.Options) -> tuple[list[tuple[str, str]], list[str]]:
    """Return the options for ``twistd`` on this process's command line, and what follows them."""
    return getopt(sys.argv[1:], top.shortOpt, top.longOpt)


def _asks_for(top: usage.Options, name: str) -> bool:
    """Whether an option was given, even with the value that is its default."""
    if top[name] != top.defaults[name]:
        return True
    try:
        given, _rest = _parsed_again(top)
    except GetoptError:  # another program, which has its own options
        return False
    return f"--{name}" in dict(given)
