"""The sender of a Unix datagram, and whether the socket at its path is its own.

A path does not identify the sender. A peer that is bound in its own mount namespace, or to a
relative path, can have the path of anybody's socket. If we answered to the path, it could make us
send its bytes to that socket, with our permissions. So we ask the kernel for the sender's user
(SCM_CREDENTIALS: unix(7)), and send to the socket itself once we know that it belongs to that user.
"""

from __future__ import annotations

import os
import socket
import stat
from typing import Any

from sockservices.transports.credentials import UCRED
from sockservices.transports.own_addresses import OURS, identity_of, own_addresses

CREDENTIALS_SIZE = socket.CMSG_SPACE(UCRED.size)
"""The buffer size for ancillary data, which leaves room for credentials but no file descriptors."""

can_be_asked = hasattr(socket, "SO_PASSCRED") and hasattr(os, "O_PATH")
"""Whether this system can tell who sent a datagram, and can send to a socket itself."""


class ImpostorError(Exception):
    """The error, of one line, if the socket at a sender's path is not the sender's."""


class Sender(str):
    """The path of a sender, with its user ID."""

    __slots__ = ("uid",)
    uid: int

    def __eq__(self, other: object) -> bool:
        """Whether the path is the same, and the user too if both are known."""
        return str.__eq__(self, other) is True and getattr(other, "uid", self.uid) == self.uid

    def __ne__(self, other: object) -> bool:
        """See ``__eq__``: ``str`` has both."""
        return not self == other

    __hash__ = str.__hash__


def ask_for_credentials(receiving: socket.socket) -> None:
    """Make the kernel report the sender of each datagram that a socket receives from now on."""
    receiving.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)


def sender(name: Any, ancillary: list[tuple[int, int, bytes]]) -> Any:
    """Return a sender's name; a path as a ``Sender``, with the user of the sending process.

    Parameters:
        name: the name that recvmsg(2) returned.
        ancillary: the ancillary data of the datagram.
    """
    if not isinstance(name, str) or not name:
        return name
    found = Sender(name)
    found.uid = -1  # no user: the datagram arrived before the kernel was asked
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
            _pid, found.uid, _gid = UCRED.unpack(data)
    return found


def send_to(sending: socket.socket, datagram: bytes, peer: Sender) -> int:
    """Send a datagram to a sender's own socket; return the number of bytes sent.

    Raises ``ImpostorError`` if the socket is not the sender's, and ``OSError``.
    """
    # Check and send to the same socket, whatever the path means by then.
    descriptor = os.open(peer, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISSOCK(found.st_mode) or found.st_uid != peer.uid:
            raise ImpostorError("the socket at that path does not belong to the sender's user")
        if own_addresses.has_unix(identity_of(found)):
            raise ImpostorError(OURS)
        try:
            return sending.sendto(datagram, f"/proc/self/fd/{descriptor}")
        except FileNotFoundError:
            raise ImpostorError("/proc is not mounted, and is needed to answer") from None
    finally:
        os.close(descriptor)
