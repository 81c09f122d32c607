"""Where text and records go: a file, pipe, socket or terminal, written to without waiting.

The rules of this module: nothing here blocks the event loop, however slow the reader is. What the
reader does not take at once waits in one queue, in order, and the reactor writes it when the reader
reads again. Everything in this process that writes to the same pipe or terminal shares the queue,
so that the rest of a long record is never torn by a log line.

Files are opened for appending, so that a log rotation that truncates them leaves no gap.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import select
import stat
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import NamedTuple, cast

from twisted.internet.interfaces import IReactorFromThreads, IWriteDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadable import isInIOThread
from zope.interface import implementer

from sockservices.printable import escaped, system_reason

_MOST_LINES = 1 << 20  # bytes of lines that wait; later ones are dropped
_AT_EXIT = 1.0  # seconds that a reader has for the rest when the process ends
_LOOKS_EVERY = 0.25  # seconds between two checks whether a FIFO has a reader: fifo(7)

_log = Logger(namespace="sockservices")


class _Waiting(NamedTuple):
    rest: memoryview
    done: Callable[[OSError | None], None] | None


@implementer(IWriteDescriptor)
class Sink:
    """One file, pipe, socket or terminal.

    Parameters:
        path: a file to append to, created if missing; or a FIFO, which may have no reader yet.
        fd: without a path, an open file descriptor. It stays open and as it is: its file
            description may be shared with other processes, so it must not become non-blocking.

    Raises ``OSError`` if the file cannot be opened.
    """

    def __init__(self, path: str | None = None, fd: int = -1) -> None:
        # Held while bytes are written, never while other code is called. Logs come from any thread,
        # and from destructors, which may run in the middle of our own code.
        self._lock = threading.RLock()
        self._queue: deque[_Waiting] = deque()
        self._lines_waiting = 0  # bytes
        self._lost = 0  # lines
        self._patience = _AT_EXIT
        self._is_watched = False
        self._path = path and os.path.abspath(path)  # the working directory may change
        self._name = escaped(path or "")
        self._fd = -1
        self._close: Callable[[], object] = int
        self._blocks = False  # when it is written to while it is not ready
        self.may_stall = True
        """Whether it has a reader, which may be slow."""
        if path is None:
            self._use(*_private(fd))
        else:
            try:
                self._open()
            except OSError as error:
                error.filename = path  # as its user wrote it
                raise
            if self._fd < 0:
                _log.warn("waiting for a reader of {path}", path=self._name)
                self._watch()
            _opened.add(self)

    # Writing

    def write(self, data: bytes, done: Callable[[OSError | None], None] | None = None) -> None:
        """Write all of this, now or later.

        Parameters:
            data: the bytes to write.
            done: called with ``None`` once they are written, which may be at once, or with the
                error that prevents it.
        """
        with self._lock:
            is_first = not self._queue
            self._queue.append(_Waiting(memoryview(data), done))
            finished = self._write_queue() if is_first else []
            stalls = bool(self._queue) and self.may_stall
        _tell(finished)
        if stalls:
            self._watch()

    def write_line(self, data: bytes) -> None:
        """Write a line, which is dropped if too many wait or if it cannot be written."""
        if self._lines_waiting > _MOST_LINES:
            self._lost += 1
            return
        if self._lost and self._lines_waiting < _MOST_LINES // 2:
            lost, self._lost = self._lost, 0
            _log.warn("{lines} log lines were dropped: nobody read them in time", lines=lost)
        with self._lock:
            self._lines_waiting += len(data)
        self.write(data, lambda _error: self._line_done(len(data)))

    def _line_done(self, size: int) -> None:
        with self._lock:
            self._lines_waiting -= size

    def _write_queue(self) -> list[tuple[_Waiting, OSError | None]]:
        """Write what can be written now; return what is finished."""
        finished: list[tuple[_Waiting, OSError | None]] = []
        while self._queue:
            first = self._queue[0]
            try:
                count = self._write_some(first.rest)
            except BlockingIOError:
                break
            except OSError as error:
                finished += [(each, error) for each in self._queue]
                self._queue.clear()
                break
            if count < len(first.rest):
                self._queue[0] = first._replace(rest=first.rest[count:])
            else:
                self._queue.popleft()
                finished.append((first, None))
        return finished

    def _write_some(self, data: memoryview) -> int:
        if self._fd < 0:
            self._open()
            if self._fd < 0:
                raise BlockingIOError
        if self._blocks:
            if not self._is_ready(0):
                raise BlockingIOError
            data = data[: select.PIPE_BUF]  # ready means that there is room for this: pipe(7)
        return os.write(self._fd, data)

    def _is_ready(self, seconds: float) -> bool:
        waiting = select.poll()
        waiting.register(self._fd, select.POLLOUT)
        return bool(waiting.poll(seconds * 1000))

    @property
    def has_unread(self) -> bool:
        """Whether something waits for the reader."""
        return bool(self._queue)

    def flush(self) -> None:
        """Wait for the reader, for a second in all, because the reactor has stopped."""
        ends = monotonic() + self._patience
        while True:
            with self._lock:
                finished = self._write_queue()
                waits = bool(self._queue) and self._fd >= 0
            _tell(finished)
            self._patience = max(0.0, ends - monotonic())
            if not (waits and self._patience and self._is_ready(self._patience)):
                return

    # Opening

    def _open(self) -> None:
        """Open the path, unless it is a FIFO that nobody reads."""
        assert self._path is not None
        flags = os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY
        try:
            if self._fd >= 0:
                fd = self._open_like_before(flags)
            else:
                fd = os.open(self._path, flags | os.O_CREAT, 0o666)
        except OSError as error:
            if error.errno == errno.ENXIO and stat.S_ISFIFO(os.stat(self._path).st_mode):
                return
            raise
        self._use(fd, False)

    def _open_like_before(self, flags: int) -> int:
        """Open the path; a new file gets the mode of the old one, whatever the umask is now."""
        assert self._path is not None
        mode = stat.S_IMODE(os.fstat(self._fd).st_mode)
        try:
            fd = os.open(self._path, flags | os.O_CREAT | os.O_EXCL, mode)
        except FileExistsError:
            return os.open(self._path, flags | os.O_CREAT, mode)  # it may be a symbolic link
        os.fchmod(fd, mode)
        return fd

    def _use(self, fd: int, is_shared: bool) -> None:
        self._close()
        self._fd = fd
        self._close = closing = weakref.finalize(self, os.close, fd)  # open as long as we are
        closing.atexit = False  # more may be written then
        self.may_stall = _has_a_reader(fd)
        self._blocks = is_shared and self.may_stall

    def reopen(self) -> None:
        """Open the path again if it leads to another file now, or to none."""
        try:
            with self._lock:
                # The rest of a record belongs where its beginning is.
                if self._fd < 0 or self._queue or self._is_at_path():
                    return
                self._open()
        except OSError as error:
            _log.error(
                "cannot open {path} again, so the file that was open is still written to: {reason}",
                path=self._name,
                reason=system_reason(error),
            )
        else:
            _log.info("opened {path} again", path=self._name)

    def _is_at_path(self) -> bool:
        assert self._path is not None
        try:
            return os.path.samestat(os.stat(self._path), os.fstat(self._fd))
        except FileNotFoundError:
            return False

    # IWriteDescriptor, used only while something waits.

    def _watch(self) -> None:
        from twisted.internet import reactor

        _stalled.add(self)
        if isInIOThread():
            self._watch_now()
        else:  # or the reactor does not run yet
            cast(IReactorFromThreads, reactor).callFromThread(self._watch_now)

    def _watch_now(self) -> None:
        from twisted.internet import reactor

        if self._is_watched or self not in _stalled:
            return
        self._is_watched = True
        if self._fd >= 0:
            reactor.addWriter(self)
        else:
            reactor.callLater(_LOOKS_EVERY, self._look_for_reader)

    def _look_for_reader(self) -> None:
        self._is_watched = False
        try:
            with self._lock:
                if self._fd < 0:
                    self._open()
        except OSError:  # the first write will report it
            pass
        self._watch_now()

    def fileno(self) -> int:
        """See ``IFileDescriptor.fileno``."""
        return self._fd

    def logPrefix(self) -> str:
        """See ``ILoggingContext.logPrefix``."""
        return "output"

    def doWrite(self) -> None:
        """Write what waits, as long as the reader takes it."""
        from twisted.internet import reactor

        with self._lock:
            finished = self._write_queue()
            if not self._queue:
                reactor.removeWriter(self)
                self._is_watched = False
                _stalled.discard(self)
        _tell(finished)

    def connectionLost(self, reason: Failure) -> None:
        """Write, to find out why the reactor lost the file descriptor."""
        # The reactor also calls this for every writer when it stops, whether broken or not.
        self._is_watched = False
        self.doWrite()


_opened: weakref.WeakSet[Sink] = weakref.WeakSet()
_standard: weakref.WeakValueDictionary[tuple[int, int], Sink] = weakref.WeakValueDictionary()
_stalled: set[Sink] = set()


def standard(fd: int) -> Sink:
    """Return the sink of standard output (1) or standard error (2), which may be the same.

    These are the real ones, even if ``twistd`` has redirected ``sys.stdout`` into the log. Raises
    ``OSError`` if it was closed when the process started.
    """
    if (sys.__stdout__, sys.__stderr__)[fd - 1] is None:  # by now, it may be any other file
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    status = os.fstat(fd)
    key = (status.st_dev, status.st_ino)
    found = _standard.get(key)
    if found is None:
        found = _standard[key] = Sink(fd=fd)
    return found


def reopen_all() -> None:
    """Open all paths again that lead to another file now, as after a log rotation."""
    for each in list(_opened):
        each.reopen()


def is_anything_unread() -> bool:
    """Whether something that was written waits for its reader."""
    return any(each.has_unread for each in list(_stalled))


def flush_all() -> None:
    """Give the readers a last moment, because the process ends."""
    for each in list(_stalled):
        each.flush()


def _tell(finished: list[tuple[_Waiting, OSError | None]]) -> None:
    for each, error in finished:
        if each.done is None:
            continue
        try:
            each.done(error)
        except Exception:  # the others must be told all the same
            _log.failure("a record was written, but what was to follow failed")


def _private(fd: int) -> tuple[int, bool]:
    """Return a file descriptor of our own for the same file, and whether it is still shared."""
    if _has_a_reader(fd):
        # A file description of our own can be non-blocking. Sockets cannot be opened like this,
        # and pipes and terminals only by their owners.
        with contextlib.suppress(OSError):
            return os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY), False
    return os.dup(fd), True  # epoll(7) allows one watcher for each file descriptor


def _has_a_reader(fd: int) -> bool:
    """Whether writes may have to wait for a reader: true for pipes, sockets and terminals."""
    mode = os.fstat(fd).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or (stat.S_ISCHR(mode) and os.isatty(fd))


atexit.register(flush_all)
