"""Where a service prints: standard output or a file.

The laws of this room: a record is written whole or the process ends with an error; it is written
at once, so that a reader at the other end of a pipe sees it; and a reader that does not read
makes us stop taking in, not grow, and does not stop the event loop from turning.

Once a record is begun, its reader is waited for as long as it reads, so that a log on the same
descriptor does not come between; one that has read nothing for a second is waited for by the event
loop.
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
_WRITE_AT_ONCE = 1 << 16  # bytes, of several records, to an output that always takes them

_log = Logger(namespace="sockservices")


class Source(Protocol):
    """What a record came from: a transport or datagram port that can be paused."""

    def pauseProducing(self) -> None:
        """Deliver no more for now."""

    def resumeProducing(self) -> None:
        """Go on."""


class _Waiting(NamedTuple):
    rest: memoryview
    written: Callable[[], None] | None


@implementer(IWriteDescriptor)
class Output:
    """An output for records.

    Parameters:
        path: a file to append to, made when missing; ``None`` is the real standard output, also
            where ``twistd`` has redirected ``sys.stdout`` into the log.
        on_failure: called with one line when the output can take no more. The default ends the
            process with status 1.

    Raises ``OSError`` when the file cannot be opened.
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
            record: what to write; its line ends are its own.
            source: paused while the output takes no more.
            written: called when the record is written, at once if it can be.
        """
        if self._failed:
            return
        self._queue.append(_Waiting(memoryview(record), written))
        if len(self._queue) == 1:
            self._write_queue()
        if self._queue or self._failed:
            self._hold(source)

    def write_texts(self, records: Iterable[str], source: Source | None = None) -> None:
        """Write ASCII texts whole, several with one call of the system where that is possible."""
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
        """Call ``then`` when all that was given is written; what was paused stays paused."""
        self._at_end = then
        if not self._queue:
            then()

    # IWriteDescriptor: in force only while records wait.

    def fileno(self) -> int:
        """See ``IFileDescriptor.fileno``."""
        return self._watched

    def logPrefix(self) -> str:
        """See ``ILoggingContext.logPrefix``."""
        return "output"

    def doWrite(self) -> None:
        """Write what waits, as long as the reader takes it."""
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
        """Take note that the reactor found the descriptor closed: the next write tells why."""
        # Also called for every writer when the reactor stops, whether or not it is broken.
        self._write_queue()

    def _write_queue(self, patience: float = 0) -> None:
        """Write until all is written, or the reader takes no more for ``patience`` seconds."""
        begun = False
        while (
            self._queue
            and not self._failed
            and self._is_ready(_PATIENCE_IN_RECORD if begun else patience)
        ):
            rest, written = self._queue[0]
            # Of a descriptor that is ready for writing only so much is promised: pipe(7).
            part = rest[: select.PIPE_BUF] if self._stalls else rest
            try:
                count = os.write(self._fd, part)
            except BlockingIOError:  # somebody else has made it non-blocking, and filled it
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
        """Whether a write would not wait for a reader, who is given ``patience`` seconds."""
        if not self._may_stall():
            return True
        waiting = select.poll()
        waiting.register(self._fd, select.POLLOUT)
        return bool(waiting.poll(patience * 1000))

    def _may_stall(self) -> bool:
        """Whether there is a reader, who may be slow."""
        if self._stalls is None:
            self._stalls = _has_a_reader(self._fd)
            if self._fd == 1 and _is_dev_null(self._fd):
                _log.info("standard output is /dev/null: what is printed is dropped there")
        return self._stalls

    def _hold(self, source: Source | None) -> None:
        from twisted.internet import reactor

        if source is not None:
            # Every time: a transport may have been resumed by its own consumer meanwhile.
            source.pauseProducing()
            if source not in self._paused:
                self._paused.append(source)
        if self._failed:
            return
        if self._watched < 0:
            # A descriptor of our own: epoll(7) keeps one watcher for each.
            self._watched = os.dup(self._fd)
            # After the listeners and connections are gone, so that nothing can follow it.
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
    """Whether writes may have to wait for somebody: true of pipes, sockets and terminals."""
    try:
        mode = os.fstat(fd).st_mode
    except OSError:
        return False  # closed: the write will say so
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or (stat.S_ISCHR(mode) and os.isatty(fd))


def _is_dev_null(fd: int) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(os.devnull))
    except OSError:
        return False
