"""The receive buffer of a UDP socket: its size, and what the kernel drops when it is full.

The kernel counts what it drops. Reading that counter costs a system call, and asking for it with
each datagram (``SO_RXQ_OVFL``) costs more, so it is read a second after the first datagram and then
at most once a second, while datagrams come: a full buffer is always read from later.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
from collections.abc import Callable
from typing import Any

from sockservices.timer import Timer

_SOON = 1.0  # seconds
_SILENCE = 60.0  # seconds until more is told
_IS_LINUX = sys.platform == "linux"

_SO_MEMINFO = 55  # Linux 4.12; Python has no name for it
_MEMINFO = struct.Struct("9I")  # the last is SK_MEMINFO_DROPS: linux/sock_diag.h


def drops_of(made: socket.socket) -> int:
    """Return how many datagrams the kernel dropped on a socket; 0 where it does not tell."""
    if not _IS_LINUX:
        return 0
    try:
        raw = made.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
        return int(_MEMINFO.unpack(raw)[-1])
    except (OSError, struct.error):  # an older kernel
        return 0


def size_of(made: socket.socket) -> int:
    """Return the size of a receive buffer, as it was asked for."""
    size = made.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    return size // 2 if _IS_LINUX else size  # Linux doubles it for its own needs: socket(7)


def enlarge(made: socket.socket, size: int) -> int:
    """Ask for a receive buffer of this many bytes, unless it is larger; return what is granted.

    With CAP_NET_ADMIN, Linux grants more than ``net.core.rmem_max``.
    """
    names = [socket.SO_RCVBUF]
    if _IS_LINUX:
        names.append(getattr(socket, "SO_RCVBUFFORCE", 33))  # Python has no name for it
    for name in names:
        if size_of(made) < size:
            with contextlib.suppress(OSError):
                made.setsockopt(socket.SOL_SOCKET, name, size)
    return size_of(made)


class DropWatch:
    """Tells what the kernel drops, soon and then once a minute.

    Parameters:
        reactor: an ``IReactorTime``.
        count: returns how many were dropped in all.
        tell: called with how many were dropped since it was called before.
    """

    def __init__(
        self, reactor: Any, count: Callable[[], int], tell: Callable[[int], object]
    ) -> None:
        self._count = count
        self._tell = tell
        self._told = 0
        self._has_begun = False
        self._timer = Timer(reactor, self._look)
        self.is_due = False
        """Whether the counter will be read without another call of ``look_soon``."""

    def look_soon(self) -> None:
        """Read the counter in a second."""
        self.is_due = self._has_begun = True
        self._timer.start(_SOON)

    def _look(self) -> None:
        self.is_due = self._has_told()
        if self.is_due:
            self._timer.start(_SILENCE)

    def _has_told(self) -> bool:
        count = self._count()
        new, self._told = count - self._told, count
        if new:
            self._tell(new)
        return bool(new)

    def end(self) -> None:
        """Tell the rest, and look no more.

        A port that never read holds the socket for other processes, which tell it themselves.
        """
        self._timer.cancel()
        if self._has_begun:
            self._has_told()
