"""Unix sockets in the file system: taking over a path, and removing the file again.

The rules of this module: a socket that a process listens on is left alone. A stale one is replaced.
A file that is not a socket is never removed. At the end, only a file that we created is removed.
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
from sockservices.transports.address_in_use import reason_in_use

# Seconds. The event loop waits meanwhile, so a service waits only once for all its sockets.
_LOCK_PATIENCE = 0.05
_PATIENT_AGAIN = 1.0

_patient_until = float("-inf")

_log = Logger(namespace="sockservices")


@contextlib.contextmanager
def taking_over(path: bytes, description: str) -> Iterator[None]:
    """Free a path for the socket that the block creates there; one process at a time.

    Parameters:
        path: the path of the socket.
        description: the description to name in an error.

    Raises ``ListenError`` if the path is occupied, or the socket cannot be created there.
    """
    try:
        with _directory_locked(path) as problem:
            if problem is not None:
                _log.warn(
                    "going on without a lock on the directory of {path}: {reason}",
                    path=escaped(path),
                    reason=system_reason(problem),
                )
            _remove_stale(path, description)
            yield
    except (OSError, CannotListenError) as error:
        cause = error.socketError if isinstance(error, CannotListenError) else error
        if not isinstance(cause, OSError):
            reason = escaped(str(cause))
        # Also a listener that started between the check and the bind.
        elif cause.errno == errno.EADDRINUSE:
            reason = reason_in_use(socket.SOCK_STREAM, path)
        else:
            reason = why_no_path(path, cause)
        raise ListenError(f"cannot listen on {description}: {reason}") from None


@contextlib.contextmanager
def _directory_locked(path: bytes) -> Iterator[OSError | None]:
    """Lock out other services while a file at a path is replaced; yield why that is not possible.

    Otherwise, two that find the same stale socket would remove each other's new one. Without a file
    there is no need for a lock, because bind(2) never replaces one. The lock is on the directory
    itself, so that it leaves nothing behind. It is advisory, and we go on without it soon: others
    lock directories for their own reasons (systemd-tmpfiles(8)), and may keep them locked. NFS
    cannot lock a directory: flock(2).
    """
    directory = os.path.dirname(path) or b"."
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:  # the directory is writable but not readable
        yield None
        return
    try:
        yield _lock(fd) if os.path.lexists(path) else None
    finally:
        os.close(fd)


def _lock(fd: int) -> OSError | None:
    global _patient_until
    now = time.monotonic()
    if now > _patient_until + _PATIENT_AGAIN:
        _patient_until = now + _LOCK_PATIENCE
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= _patient_until:
                return None
            time.sleep(0.01)
        except OSError as error:
            return error
        else:
            return None


def _remove_stale(path: bytes, description: str) -> None:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise ListenError(
            f"cannot listen on {description}: {escaped(path)} exists and is not a socket; "
            "it was not changed"
        )
    try:
        if _is_alive(path):
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        os.unlink(path)
    except FileNotFoundError:
        return


def _is_alive(path: bytes) -> bool:
    """Whether any process has the socket at a path open; raise ``OSError`` if that is unknown."""
    # A datagram socket does not disturb a live service: a stream socket is of the wrong type
    # (EPROTOTYPE), and a datagram socket does not notice. A stale socket of either type refuses.
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
    """The file of a socket that was just bound, distinguished from later files at its path.

    As long as the socket is open, no other file gets its number: it keeps the file's inode.
    """

    def __init__(self, path: bytes) -> None:
        self._path = path
        self._made = socket_at(path)

    @property
    def mode(self) -> int | None:
        """The mode that it had when it was made, if it was still there."""
        return stat.S_IMODE(self._made.st_mode) if self._made is not None else None

    def remove(self) -> None:
        """Remove the file, unless it has gone or been replaced; log if that fails.

        Call this before the socket is closed: until then, no other service takes the path over. New
        peers no longer find it.
        """
        made, self._made = self._made, None
        found = socket_at(self._path)
        if made is None or found is None or not os.path.samestat(made, found):
            return
        try:
            os.unlink(self._path)
        except OSError as error:
            _log.warn(
                "cannot remove {path}: {reason}",
                path=escaped(self._path),
                reason=system_reason(error),
            )


def socket_at(path: bytes) -> os.stat_result | None:
    """Return the status of the socket file at a path, or ``None`` if there is none."""
    with contextlib.suppress(OSError):
        found = os.lstat(path)
        if stat.S_ISSOCK(found.st_mode):
            return found
    return None
