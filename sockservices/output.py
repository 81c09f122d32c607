"""The output of a service: standard output or a file.

The rules of this module: a record is written whole, or the process exits with an error. It is
written at once, so that the reader of a pipe sees it. If the reader does not read, the sources of
records are paused; memory does not grow, and the event loop is not blocked.

Once part of a record is written, the rest follows without the event loop as long as the reader
keeps reading, so that no log line on the same file descriptor comes between. If it has read nothing
for a second, the event loop waits for it.
"""

from __future__ import annotations

import os
import select
import stat
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

from twisted.internet.interfaces import IWriteDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from sockservices.exit import fail_process
from sockservices.printable import system_reason

_PATIENCE_IN_RECORD = 1.0  # seconds
_WRITE_AT_ONCE = 1 << 16  # bytes of several records, for an output that never blocks

_log = Logger(namespace="sockservices")


class Source(Protocol):
    """The source of a record: a transport or datagram port that can be paused."""

    def pauseProducing(self) -> None:
        """Pause delivering data."""

    def resumeProducing(self) -> None:
        """Resume delivering data."""


class _Waiting(NamedTuple):
    rest: memoryview
    written: Callable[[], None] | None


@implementer(IWriteDescriptor)
class Output:
    """An output for records.

    Parameters:
        path: a file to append to, created if missing; ``None`` for the real standard output, even
            if ``twistd`` has redirected ``sys.stdout`` into the log.
        on_failure: called with one line when writing fails. By default the process exits with
            status 1.

    Raises ``OSError`` if the file cannot be opened.
    """

    def __init__(
        self, path: str | None = None, on_failure: Callable[[str], None] = fail_process
    ) -> None:
        self._on_failure = on_failure
        self._queue: deque[_Waiting] = deque()
        self._paused: list[Source] = []
        self._failed = False
        if path is None:
            self._name = "standard output"
            self._fd = 1
        else:
            self._name = path
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            self._close = weakref.finalize(self, os.close, self._fd)  # open as long as we are
        self._stalls: bool | None = None
        self._watched = -1
        self._at_end: Callable[[], None] | None = None

    def write(
        self,
        record: bytes,
        source: Source | None = None,
        written: Callable[[], None] | None = None,
    ) -> None:
        """Write one record.

        Parameters:
            record: the bytes to write, including any line end.
            source: the source to pause while the output is blocked.
            written: called when the record is written, which may be at once.
        """
        if self._failed:
            return
        self._queue.append(_Waiting(memoryview(record), written))
        if len(self._queue) == 1:
            self._write_queue()
        if self._queue or self._failed:
            self._hold(source)

    def write_texts(self, records: Iterable[str], source: Source | None = None) -> None:
        """Write ASCII texts whole, several in one system call if possible."""
        limit = select.PIPE_BUF if self._may_stall() else _WRITE_AT_ONCE
        together: list[str] = []
        size = 0
        for record in records:
            if together and size + len(record) > limit:
                self.write("".join(together).encode("ascii"), source)
                together, size = [], 0
            together.append(record)
            size += len(record)
        if together:
            self.write("".join(together).encode("ascii"), source)

    def end(self, then: Callable[[], None]) -> None:
        """Call ``then`` once everything is written; paused sources stay paused."""
        self._at_end = then
        if not self._queue:
            then()

    # IWriteDescriptor, used only while records wait.

    def fileno(self) -> int:
        """See ``IFileDescriptor.fileno``."""
        return self._watched

    def logPrefix(self) -> str:
        """See ``ILoggingContext.logPrefix``."""
        return "output"

    def doWrite(self) -> None:
        """Write waiting records, as long as the reader takes them."""
        from twisted.internet import reactor

        self._write_queue()
        if self._queue and not self._failed:
            return
        reactor.removeWriter(self)
        if self._failed:
            return
        if self._at_end is not None:
            self._at_end()
            return
        paused, self._paused = self._paused, []
        for source in paused:
            source.resumeProducing()

    def connectionLost(self, reason: Failure) -> None:
        """Write, to find out why the reactor lost the file descriptor."""
        # The reactor also calls this for every writer when it stops, whether broken or not.
        self._write_queue()

    def _write_queue(self, patience: float = 0) -> None:
        """Write until everything is written, or the reader is blocked for ``patience`` seconds."""
        begun = False
        while (
            self._queue
            and not self._failed
            and self._is_ready(_PATIENCE_IN_RECORD if begun else patience)
        ):
            rest, written = self._queue[0]
            # A file descriptor ready for writing takes only this much for certain: pipe(7).
            part = rest[: select.PIPE_BUF] if self._stalls else rest
            try:
                count = os.write(self._fd, part)
            except BlockingIOError:  # another process made it non-blocking, and filled it
                return
            except OSError as error:
                self._fail(f"cannot write to {self._name}: {system_reason(error)}")
                return
            begun = count < len(rest)
            if begun:
                self._queue[0] = _Waiting(rest[count:], written)
                continue
            self._queue.popleft()
            if written is not None:
                written()

    def _is_ready(self, patience: float) -> bool:
        """Whether the output can be written to without blocking, within ``patience`` seconds."""
        if not self._may_stall():
            return True
        waiting = select.poll()
        waiting.register(self._fd, select.POLLOUT)
        return bool(waiting.poll(patience * 1000))

    def _may_stall(self) -> bool:
        """Whether the output has a reader, which may be slow."""
        if self._stalls is None:
            self._stalls = _has_a_reader(self._fd)
            if self._fd == 1 and _is_dev_null(self._fd):
                _log.info("standard output is /dev/null: all output is discarded")
        return self._stalls

    def _hold(self, source: Source | None) -> None:
        from twisted.internet import reactor

        if source is not None:
            # Every time, because the transport's own consumer may have resumed it.
            source.pauseProducing()
            if source not in self._paused:
                self._paused.append(source)
        if self._failed:
            return
        if self._watched < 0:
            # Our own file descriptor, because epoll(7) allows one watcher for each.
            self._watched = os.dup(self._fd)
            # After the listeners and connections have gone, so that no record can follow.
            reactor.addSystemEventTrigger("after", "shutdown", self._flush_at_exit)
        reactor.addWriter(self)

    def _flush_at_exit(self) -> None:
        self._write_queue(patience=1)
        if self._queue and not self._failed:
            self._fail(f"{len(self._queue)} records not written: nobody reads {self._name}")

    def _fail(self, message: str) -> None:
        self._failed = True
        self._on_failure(message)


def _has_a_reader(fd: int) -> bool:
    """Whether writes may have to wait for a reader: true for pipes, sockets and terminals."""
    try:
        mode = os.fstat(fd).st_mode
    except OSError:
        return False  # closed: the write will report it
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or (stat.S_ISCHR(mode) and os.isatty(fd))


def _is_dev_null(fd: int) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(os.devnull))
    except OSError:
        return False
