"""Where an author's code raised an exception, for errors of one line."""

from __future__ import annotations

import contextlib
import importlib
import os
import sysconfig
import traceback
from types import TracebackType

import attr
import attrs
import zope.interface

import twisted

# What lies between us and an author's code.
_BETWEEN = tuple(
    os.path.dirname(os.path.realpath(each)) + os.sep
    for each in (
        __file__,
        *(str(package.__file__) for package in (attr, attrs, importlib, twisted, zope.interface)),
    )
)
_LIBRARY = tuple(sysconfig.get_path(each) + os.sep for each in ("stdlib", "platstdlib"))
_PACKAGES = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")


def described(error: BaseException) -> str:
    """Return an exception in one line, such as ``KeyError: 'port' (shout.py:3)``."""
    text = _text(error).partition("\n")[0]
    what = type(error).__name__ + (f": {text}" if text else "")
    place = place_of(error)
    return f"{what} ({place})" if place else what


def _text(error: BaseException) -> str:
    if isinstance(error, SyntaxError):  # its text has a place, too
        return error.msg
    if any(isinstance(each, attrs.Attribute) for each in error.args):  # from a validator of attrs
        return str(error.args[0])
    return str(error)


def place_of(error: BaseException) -> str | None:
    """Return the file and line of the mistake, or ``None`` if it is in no author's code.

    That is where the exception was raised, or where a library was called that raised it.
    """
    if isinstance(error, SyntaxError) and error.filename:
        return _place(error.filename, error.lineno)
    calls = [
        (frame.f_code.co_filename, line, frame.f_code.co_name)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if not _is_between(frame.f_code.co_filename)
    ]
    for file, line, function in reversed(calls):
        # A library whose import fails is the mistake, not whoever imports it.
        if function == "<module>" or not _is_library(file):
            return _place(file, line)
    return _place(*calls[0][:2]) if calls else None


def traceback_of(error: BaseException) -> str | None:
    """Return the traceback of the mistake that led to an error, or ``None`` if it is no author's.

    It begins in the author's code.
    """
    while error.__cause__ is not None:
        error = error.__cause__
    if place_of(error) is None:
        return None
    return "".join(traceback.format_exception(type(error), error, _theirs(error.__traceback__)))


def _theirs(calls: TracebackType | None) -> TracebackType | None:
    while calls is not None and _is_between(calls.tb_frame.f_code.co_filename):
        calls = calls.tb_next
    return calls


def _is_between(file: str) -> bool:
    # Importing and generated code have names such as <frozen importlib._bootstrap>.
    return file.startswith("<") or os.path.realpath(file).startswith(_BETWEEN)


def _is_library(file: str) -> bool:
    return file.startswith(_LIBRARY) or any(each in file for each in _PACKAGES)


def _place(file: str, line: int | None) -> str:
    with contextlib.suppress(FileNotFoundError):  # the current directory has been removed
        below = os.path.relpath(file)
        file = file if below.startswith(os.pardir) else below
    return f"{file}:{line}"
