"""Who has sent a Unix datagram, and whether the socket of that name is his.

A name is not the sender. Bound in a mount namespace of its own, or to a relative name, a peer can
have the name of anybody's socket; answered by name, it would have us send its bytes there, with our
rights. So the kernel is asked for its user (SCM_CREDENTIALS: unix(7)), and the answer goes to the
socket itself, once it is known to be that user's.
"""

from __future__ import annotations

import os
import socket
import stat
from typing import Any

from sockservices.transports.credentials import UCRED
from sockservices.transports.own_addresses import OURS, identity_of, own_addresses

CREDENTIALS_SIZE = socket.CMSG_SPACE(UCRED.size)
"""Room for what comes beside a datagram: credentials, and so none for descriptors."""

can_be_asked = hasattr(socket, "SO_PASSCRED") and hasattr(os, "O_PATH")
"""Whether this system tells who has sent a datagram, and has a way to send to a socket itself."""


class ImpostorError(Exception):
    """The socket of a sender's name is not the sender's; one line."""


class Sender(str):
    """The path of a sender, with the number of its user."""

    __slots__ = ("uid",)
    uid: int

    def __eq__(self, other: object) -> bool:
        """Whether it is the same path, and the same user where both are known."""
        return str.__eq__(self, other) is True and getattr(other, "uid", self.uid) == self.uid

    def __ne__(self, other: object) -> bool:
        """See ``__eq__``: ``str`` has both."""
        return not self == other

    __hash__ = str.__hash__


def ask_for_credentials(receiving: socket.socket) -> None:
    """Have the kernel tell who sends what comes to a socket from now on."""
    receiving.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)


def sender(name: Any, ancillary: list[tuple[int, int, bytes]]) -> Any:
    """Return a sender's name; a path comes with the user of the process that has sent it.

    Parameters:
        name: as recvmsg(2) gives it.
        ancillary: what came beside the datagram.
    """
    if not isinstance(name, str) or not name:
        return name
    found = Sender(name)
    found.uid = -1  # nobody's: of what had come before the kernel was asked
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
            _pid, found.uid, _gid = UCRED.unpack(data)
    return found


def send_to(sending: socket.socket, datagram: bytes, peer: Sender) -> int:
    """Send a datagram to a sender's own socket; return how many bytes were sent.

    Raises ``ImpostorError`` if the socket is not the sender's, and ``OSError``.
    """
    # The socket that is looked at is the one that is sent to, whatever the path means by then.
    descriptor = os.open(peer, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISSOCK(found.st_mode) or found.st_uid != peer.uid:
            raise ImpostorError("the socket of that name does not belong to the sender's user")
        if own_addresses.has_unix(identity_of(found)):
            raise ImpostorError(OURS)
        try:
            return sending.sendto(datagram, f"/proc/self/fd/{descriptor}")
        except FileNotFoundError:
            raise ImpostorError("without /proc it cannot be sent to the socket itself") from None
    finally:
        os.close(descriptor)
