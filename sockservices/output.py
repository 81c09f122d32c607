"""The output of a service: standard output or a file.

The rules of this module: a record is written whole, or the process exits with an error. It is
written at once, so that the reader of a pipe sees it. If the reader does not read, the sources of
records are paused, and the listeners too once too much waits; memory does not grow, and the event
loop is not blocked.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Iterable
from functools import partial
from typing import Protocol

from twisted.logger import Logger

from sockservices.exit import fail_process
from sockservices.printable import Count, system_reason
from sockservices.sink import Sink, standard

_MOST_WAITING = 1 << 20  # bytes of records; from then on, all sources and listeners are paused
_OVERHEAD = 500  # bytes that Python needs for each
_WRITE_AT_ONCE = 1 << 16  # bytes of several records, for an output that never blocks

_log = Logger(namespace="sockservices")


class Source(Protocol):
    """The source of a record: a transport or datagram port that can be paused."""

    def pauseProducing(self) -> None:
        """Pause delivering data."""

    def resumeProducing(self) -> None:
        """Resume delivering data."""


class Output:
    """An output for records.

    Parameters:
        path: a file to append to, created if missing; ``None`` for the real standard output, even
            if ``twistd`` has redirected ``sys.stdout`` into the log. For a FIFO, records wait until
            it has a reader.
        on_failure: called with one line when writing fails. By default the process exits with
            status 1.

    Raises ``OSError`` if the file cannot be opened.
    """

    def __init__(
        self, path: str | None = None, on_failure: Callable[[str], None] = fail_process
    ) -> None:
        self._on_failure = on_failure
        self._name = "standard output" if path is None else path
        # Standard output only when it is needed: in the background it will be another.
        self._sink = None if path is None else Sink(path)
        self._records = 0  # that wait
        self._waiting = 0  # bytes
        self._paused: dict[Source, None] = {}
        self._sources: set[Source] = set()
        self._listeners: list[tuple[Callable[[], None], Callable[[], None]]] = []
        self._is_full = False
        self._failed = False
        self._flushes_at_exit = False
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
        size = len(record) + _OVERHEAD
        self._records += 1
        self._waiting += size
        try:
            self._get_sink().write(record, partial(self._done, size, written))
        except OSError as error:  # standard output is closed
            self._fail(error)
        if self._records:
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
        if not self._records:
            self._drained()

    # Back-pressure

    def add_source(self, source: Source) -> None:
        """Pause this source, too, while too much waits, even if it has sent nothing yet."""
        self._sources.add(source)
        if self._is_full:
            self._pause(source)

    def remove_source(self, source: Source) -> None:
        """Forget a source, which has gone; its records are written all the same."""
        self._sources.discard(source)
        self._paused.pop(source, None)

    def add_listeners(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        """Pause listeners, too, while too much waits; see ``IPausesListeners``."""
        self._listeners.append((pause, resume))

    def _hold(self, source: Source | None) -> None:
        if source is not None:
            self._pause(source)
        if self._failed:
            return
        if not self._flushes_at_exit:
            from twisted.internet import reactor

            self._flushes_at_exit = True
            # After the listeners and connections have gone, so that no record can follow.
            reactor.addSystemEventTrigger("after", "shutdown", self._flush_at_exit)
        if self._waiting >= _MOST_WAITING and not self._is_full:
            self._is_full = True
            for each in self._sources:
                self._pause(each)
            for pause, _resume in self._listeners:
                pause()

    def _pause(self, source: Source) -> None:
        # Every time, because the transport's own consumer may have resumed it.
        source.pauseProducing()
        self._paused[source] = None

    def _done(self, size: int, written: Callable[[], None] | None, error: OSError | None) -> None:
        if error is not None:
            self._fail(error)
            return
        self._records -= 1
        self._waiting -= size
        if written is not None:
            written()
        if not self._records:
            self._drained()

    def _drained(self) -> None:
        if self._at_end is not None:
            then, self._at_end = self._at_end, _nothing
            then()
            return
        if self._paused:
            paused, self._paused = self._paused, {}
            for source in paused:
                source.resumeProducing()
        if self._is_full:
            self._is_full = False
            for _pause, resume in self._listeners:
                resume()

    # The sink

    def _get_sink(self) -> Sink:
        if self._sink is None:
            self._sink = standard(1)
            if _is_dev_null(self._sink.fileno()):
                _log.info("standard output is /dev/null: all output is discarded")
        return self._sink

    def _may_stall(self) -> bool:
        try:
            return self._get_sink().may_stall
        except OSError:
            return False  # closed: the write will report it

    def _flush_at_exit(self) -> None:
        if self._records and not self._failed:
            self._get_sink().flush()
        if self._records and not self._failed:
            lost = Count(self._records, "record", "records")
            self._fail(f"{lost} not written: {self._name} was not read in time")

    def _fail(self, problem: OSError | str) -> None:
        if self._failed:
            return
        self._failed = True
        if isinstance(problem, OSError):
            problem = f"cannot write to {self._name}: {system_reason(problem)}"
        self._on_failure(problem)


def _nothing() -> None: ...


def _is_dev_null(fd: int) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(os.devnull))
    except OSError:
        return False
