"""The credentials of the peer on a Unix socket, as the kernel reports them: unix(7)."""

from __future__ import annotations

import grp
import os
import pwd
import socket
import struct
from collections.abc import Callable
from typing import Any

import attrs

UCRED = struct.Struct("iII")
"""The kernel's ``struct ucred``: process, user and group."""

_SO_PEERGROUPS = 59  # Linux 4.13; Python has no name for it
_NOBODY = (1 << 32) - 1  # the ID that no user and no group has
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


def user_id(value: str | int) -> int:
    """Convert the name or ID of a user; raise ``ValueError`` if there is none."""
    return _id(value, "user", lambda name: pwd.getpwnam(name).pw_uid)


def group_id(value: str | int) -> int:
    """Convert the name or ID of a group; raise ``ValueError`` if there is none."""
    return _id(value, "group", lambda name: grp.getgrnam(name).gr_gid)


def _id(value: str | int, what: str, look_up: Callable[[str], int]) -> int:
    if not can_be_asked:
        raise ValueError("this system cannot tell the user of a Unix peer")
    text = str(value)
    if text.isascii() and text.isdecimal() and int(text) < _NOBODY:
        return int(text)
    try:
        return look_up(text)
    except (KeyError, ValueError, UnicodeError):
        raise ValueError(f"there is no {what} {text!r}") from None
