"""How many bytes the kernel holds for a stream socket, in either direction: tcp(7), unix(7)."""

from __future__ import annotations

from array import array
from fcntl import ioctl
from termios import FIONREAD as _UNREAD
from termios import TIOCOUTQ as _UNACKNOWLEDGED

_number = array("i", [0])  # where the kernel puts the number; a new one takes longer


def unread(fd: int) -> int:
    """Return the number of received bytes that have not been read.

    0 if the system does not tell, or the connection is broken.
    """
    return _ask(fd, _UNREAD)


def unacknowledged(fd: int) -> int:
    """Return the number of sent bytes that the peer's system has not acknowledged.

    On a Unix socket: that the peer has not read. 0 if the system does not tell (it is not Linux),
    or the connection is broken.
    """
    return _ask(fd, _UNACKNOWLEDGED)


def _ask(fd: int, request: int) -> int:
    try:
        ioctl(fd, request, _number)
    except OSError:
        return 0
    return _number[0]
