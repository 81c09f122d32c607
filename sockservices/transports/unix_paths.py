"""Unix sockets in the file system: taking a path over, and giving it back.

The laws of this room: a socket that somebody listens on is left alone; one that nobody listens
on is replaced; a file that is no socket is never removed; at the end only what we made goes.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
import time
from collections.abc import Iterator

from twisted.internet.error import CannotListenError
from twisted.logger import Logger

from sockservices.errors import ListenError, why_no_path
from sockservices.printable import escaped, system_reason

_LOCK_PATIENCE = 1.0  # seconds

_log = Logger(namespace="sockservices")


@contextlib.contextmanager
def taking_over(path: bytes, description: str) -> Iterator[None]:
    """Make a path free for a socket that the body makes; one process at a time.

    Parameters:
        path: where the socket will be.
        description: named in the error.

    Raises ``ListenError`` when the path is occupied or the socket cannot be made there.
    """
    try:
        with _folder_locked(os.path.dirname(path) or b"."):
            _remove_stale(path, description)
            yield
    except (OSError, CannotListenError) as error:
        cause = error.socketError if isinstance(error, CannotListenError) else error
        if not isinstance(cause, OSError):
            reason = escaped(str(cause))
        # A live listener that went up between the look and the bind, too.
        elif cause.errno == errno.EADDRINUSE:
            reason = "address already in use: another process listens there"
        else:
            reason = why_no_path(path, cause)
        raise ListenError(f"cannot listen on {description}: {reason}") from None


@contextlib.contextmanager
def _folder_locked(folder: bytes) -> Iterator[None]:
    """Keep other services off while a path is looked at and bound.

    Two that find the same stale socket would remove each other's new one. The lock is on the
    folder itself, so that it leaves nothing behind. It is advisory and given up after a second:
    others lock folders for reasons of their own (systemd-tmpfiles(8)).
    """
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:  # a folder that may be written but not read
        yield
        return
    try:
        deadline = time.monotonic() + _LOCK_PATIENCE
        while time.monotonic() < deadline:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            time.sleep(0.01)
        yield
    finally:
        os.close(fd)


def _remove_stale(path: bytes, description: str) -> None:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise ListenError(
            f"cannot listen on {description}: {escaped(path)} exists and is no socket; "
            "it is left as it is"
        )
    try:
        if _is_alive(path):
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        os.unlink(path)
    except FileNotFoundError:
        return


def _is_alive(path: bytes) -> bool:
    """Whether any process has the socket at a path open; raise ``OSError`` if it cannot be told."""
    # With a datagram socket nothing happens to a live service: one of streams is of the wrong
    # kind (EPROTOTYPE), one of datagrams notices nothing. A stale one refuses both.
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return False
        except OSError as error:
            if error.errno != errno.EPROTOTYPE:
                raise
        return True


class SocketFile:
    """The file of a socket that was just bound, told from any other that comes to have its path."""

    def __init__(self, path: bytes) -> None:
        self._path = path
        self._made = socket_at(path)

    def remove(self) -> None:
        """Remove it, unless it has gone or something else has its place; log if that fails.

        To be called when the socket is closed, and earlier where nobody shall find it any more.
        """
        if self._made is None:
            return
        try:
            with _folder_locked(os.path.dirname(self._path) or b"."):
                if self._is_ours():
                    os.unlink(self._path)
                    self._made = None
        except OSError as error:
            self._made = None  # one line is enough
            _log.warn(
                "{path} could not be removed: {reason}",
                path=escaped(self._path),
                reason=system_reason(error),
            )

    def _is_ours(self) -> bool:
        found = socket_at(self._path)
        if self._made is None or found is None or not os.path.samestat(self._made, found):
            return False
        # If ours was removed, another may have got its inode number. One that nobody has touched
        # since is ours for certain; the other that counts is alive, and ours is closed.
        return self._made.st_ctime_ns == found.st_ctime_ns or not _is_alive(self._path)


def socket_at(path: bytes) -> os.stat_result | None:
    """Return what the system knows of the socket with this path, if there is one."""
    with contextlib.suppress(OSError):
        found = os.lstat(path)
        if stat.S_ISSOCK(found.st_mode):
            return found
    return None
