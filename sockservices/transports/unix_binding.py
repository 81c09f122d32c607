"""Binding Unix sockets: to abstract names, and to files with their mode and owner at once."""

from __future__ import annotations

import os
import socket
import stat

import attrs
from twisted.internet.error import CannotListenError
from twisted.logger import Logger

from sockservices.printable import escaped, system_reason
from sockservices.transports.unix_paths import SocketFile

_log = Logger(namespace="sockservices")


@attrs.frozen
class Access:
    """Who may use the file of a socket."""

    mode: int
    owner: int | None = None
    """The ID of its user, if that is not the process's."""
    group: int | None = None
    """The ID of its group, if the system is not to choose it."""

    @property
    def is_given_away(self) -> bool:
        """Whether it has an owner or a group of its own."""
        return (self.owner, self.group) != (None, None)


def bind_abstract(made: socket.socket, address: bytes) -> None:
    """Bind a socket to an abstract name; raise ``CannotListenError`` if that fails."""
    try:
        made.bind(address)
    except OSError as error:
        raise CannotListenError(None, address, error) from None


def bind(made: socket.socket, path: bytes, access: Access) -> SocketFile:
    """Bind a socket to a path, so that at no moment more peers than intended may use its file.

    The mode is not changed by the path, because the directory may be another user's, who can put a
    link to any file there. Besides, some file systems have no chmod(2) for sockets (virtiofs). So
    the umask, which all threads share, is another one for the moment of bind(2).

    Raises ``OSError`` if it cannot be bound, and ``CannotListenError`` if the file cannot be given
    to its owner.
    """
    before = os.umask(0o777 & ~(0 if access.is_given_away else access.mode))
    try:
        made.bind(path)
    finally:
        os.umask(before)
    file = SocketFile(path)
    if access.is_given_away:
        try:
            _give(path, access)
        except OSError as error:
            file.remove()
            made.close()
            raise CannotListenError(None, path, _why_not_given(access, error)) from None
    file = SocketFile(path)  # as it is now
    if file.mode not in (None, access.mode):
        _log.warn(
            "{path} has the mode {mode:o} instead of {wanted_mode:o}, because of its directory",
            path=escaped(path),
            mode=file.mode,
            wanted_mode=access.mode,
        )
    return file


def _give(path: bytes, access: Access) -> None:
    """Set the owner and the group of a file that nobody may use yet, and then its mode."""
    owner = -1 if access.owner is None else access.owner
    group = -1 if access.group is None else access.group
    if not hasattr(os, "O_PATH"):  # other systems than Linux, which have lchmod(2) instead
        os.chown(path, owner, group, follow_symlinks=False)
        os.chmod(path, access.mode, follow_symlinks=False)
        return
    pinned = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)  # whatever is there now
    try:
        found = os.fstat(pinned).st_mode
        if not stat.S_ISSOCK(found) or stat.S_IMODE(found):
            raise FileExistsError("somebody has put another file there")
        itself = f"/proc/self/fd/{pinned}"  # fchown(2) does not take such a descriptor
        if not os.path.exists(itself):
            raise FileNotFoundError("/proc is not mounted, and is needed")
        os.chown(itself, owner, group)
        os.chmod(itself, access.mode)
    finally:
        os.close(pinned)


def _why_not_given(access: Access, error: OSError) -> str:
    to = [
        f"{what} {number}"
        for what, number in (("user", access.owner), ("group", access.group))
        if number is not None
    ]
    return f"its file cannot be given to {' and '.join(to)}: {system_reason(error)}"
