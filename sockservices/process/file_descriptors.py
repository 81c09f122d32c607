"""The file descriptors of the process: its limit, and the standard ones."""

from __future__ import annotations

import os
import resource
from typing import Any

_FD_SETSIZE = 1024  # select(2)


def raise_limit(reactor: Any) -> None:
    """Raise the soft limit of file descriptors to the hard limit: getrlimit(2).

    For a reactor that uses select(2), which knows no file descriptor above 1023, it becomes 1024 at
    the most: Twisted would close connections with higher ones.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    uses_select = type(reactor).__name__ == "SelectReactor"
    limit = (soft if 0 <= soft < _FD_SETSIZE else _FD_SETSIZE) if uses_select else hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


def open_standard_ones() -> None:
    """Open file descriptors 0, 1 and 2 as /dev/null if they are closed.

    Otherwise the next files that are opened get them, such as the reactor's own, and ``twistd``
    replaces these with /dev/null when it goes to the background. Call it before they are opened.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
