"""The credentials of the peer on a Unix socket, as the kernel reports them: unix(7)."""

from __future__ import annotations

import os
import pwd
import socket
import struct
from typing import Any

import attrs

UCRED = struct.Struct("iII")
"""The kernel's ``struct ucred``: process, user and group."""

_SO_PEERGROUPS = 59  # Linux 4.13; Python has no name for it
_MOST = 1024  # bytes that Python's getsockopt can return, which are 256 groups

can_be_asked = hasattr(socket, "SO_PEERCRED")
"""Whether this system can report credentials."""


@attrs.frozen
class Credentials:
    """The user and all groups that a peer had when it connected."""

    uid: int
    gids: frozenset[int]


def credentials_of(connection: Any) -> Credentials:
    """Return the peer's credentials; raise ``OSError`` if the kernel cannot tell.

    Parameters:
        connection: a connected Unix stream socket.
    """
    asked = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, UCRED.size)
    _pid, uid, gid = UCRED.unpack(asked)
    return Credentials(uid, frozenset([gid, *_other_groups(connection, uid, gid)]))


def _other_groups(connection: Any, uid: int, gid: int) -> list[int]:
    try:
        raw = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _MOST)
    except OSError:  # too many groups, or an older kernel
        try:
            return os.getgrouplist(pwd.getpwuid(uid).pw_name, gid)
        except KeyError:
            return []
    return [each for (each,) in struct.iter_unpack("I", raw)]
