"""The PID file of ``twistd``, which may be left over from a process that was killed.

``twistd`` refuses to start while any process has the ID in the file. After a reboot, or in a new
container, that may be a process of another program or user, or the new process itself.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from getopt import GetoptError, getopt
from pathlib import Path

from twisted.logger import Logger
from twisted.python import usage

from sockservices.printable import escaped

_LONGEST = 100  # bytes; a process ID is shorter
_log = Logger(namespace="sockservices")


class RunningError(Exception):
    """The error, of one line, for a PID file whose process is running."""


def remove_stale_pid_file(path: str, top: usage.Options) -> None:
    """Remove the PID file if the process that wrote it has ended.

    Parameters:
        path: the path of the file.
        top: the options of ``twistd``.

    Raises ``RunningError`` if it is running, ``ValueError`` if the file is no PID file, and
    ``OSError`` if it cannot be read or removed.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ValueError("not a regular file; --pidfile= writes none")
    except FileNotFoundError:
        return
    with open(path, "rb") as file:
        content = file.read(_LONGEST).strip()
    if content:  # empty after a power failure, or on a full disk
        if not content.isdigit():
            raise ValueError(f"{escaped(content)!r} is not a process ID; the file was not changed")
        if _has_written(int(content), path, top):
            raise RunningError(
                f"process {int(content)} is running with the PID file {escaped(path)}: "
                "stop it, or pass another --pidfile"
            )
    os.unlink(path)
    _log.warn("removed the PID file {path}: its process is not running", path=escaped(path))


def _has_written(pid: int, path: str, top: usage.Options) -> bool:
    """Whether a process may have written the PID file, by the command line that it has."""
    if pid in (0, os.getpid()):
        return False
    try:
        words = os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes()).split("\0")[:-1]
    except OSError:  # it has ended, or this system has no such file: proc(5)
        return _can_signal(pid)
    programs = [os.path.basename(word) for word in words]
    program = os.path.basename(sys.argv[0])
    if program not in programs:  # so it is if the process is a zombie: it has no words
        return False
    try:
        options, _rest = getopt(words[programs.index(program) + 1 :], top.shortOpt, top.longOpt)
    except GetoptError:  # another version, perhaps
        return True
    return _are_same(path, dict(options), pid, top)


def _are_same(path: str, theirs: dict[str, str], pid: int, top: usage.Options) -> bool:
    other: str = theirs.get("--pidfile", top.defaults["pidfile"])
    if not {"-d", "--rundir"} & set(theirs):  # otherwise it has left the directory
        with contextlib.suppress(OSError):  # a process of another user
            other = os.path.join(os.readlink(f"/proc/{pid}/cwd"), other)
    if os.path.isabs(other):
        return os.path.realpath(other) == os.path.realpath(path)
    return os.path.basename(other) == os.path.basename(path)


def _can_signal(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (OSError, OverflowError):
        return False
    return True
