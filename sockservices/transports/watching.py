"""Watching eager connections with epoll(7), with fewer system calls and less Python.

- Changes to what the kernel watches are made once per turn, just before asking for events: a
  connection that is answered and closed in one turn is never registered.
- A writer is tried before it is watched, since the kernel will most likely take the data: a close,
  a half-close or the next piece of a producer needs no event.
- A readable connection goes straight to its ``doRead``.

Private names of Twisted used here, checked with 24.7 to 26.10: ``_disconnectSelectable``,
``_doReadOrWrite``, ``_poller``, ``_reads``, ``_selectables``, ``_writes``.
"""

from __future__ import annotations

import contextlib
from typing import Any

from twisted.internet import error, main
from twisted.python import context, log
from twisted.python.failure import Failure

from sockservices.transports.accelerator import accelerator
from sockservices.transports.epoll import EPOLLIN, EPOLLOUT, epoll
from sockservices.transports.transport import EagerConnection

# One call returns at most this many events; the next call continues where it stopped.
_EVENTS = 1024

_DONE = Failure(main.CONNECTION_DONE)
_NO_CONTEXT: dict[Any, Any] = {}


class Watching:
    """A mixin that watches eager connections; list it before what watches everything else.

    The class that it is mixed into has ``_poller`` (an ``epoll`` object) and ``_doReadOrWrite``,
    and, all by file descriptor, ``_reads``, ``_writes`` and ``_selectables``.
    """

    _poller: Any
    _reads: set[int]
    _writes: set[int]
    _selectables: dict[int, Any]
    _doReadOrWrite: Any
    _disconnectSelectable: Any

    def __init__(self) -> None:
        # All keyed by file descriptor, and for eager connections only.
        # The events that the kernel watches for.
        self._watched: dict[int, int] = {}
        # The connections that receive these events.
        self._served: dict[int, EagerConnection] = {}
        # Those for which the watched events may differ from the wanted ones.
        self._changed: set[int] = set()
        # Those that want to write and have not been tried.
        self._untried: dict[int, EagerConnection] = {}

    def addReader(self, reader: Any) -> None:
        """See ``IReactorFDSet.addReader``."""
        if not isinstance(reader, EagerConnection):
            super().addReader(reader)  # type: ignore[misc]
            return
        fd = reader.fileno()
        if self._selectables.get(fd) is not reader:
            self._take(fd, reader)
        if fd not in self._reads:
            self._reads.add(fd)
            self._changed.add(fd)

    def addWriter(self, writer: Any) -> None:
        """See ``IReactorFDSet.addWriter``."""
        if not isinstance(writer, EagerConnection):
            super().addWriter(writer)  # type: ignore[misc]
            return
        fd = writer.fileno()
        if self._selectables.get(fd) is not writer:
            self._take(fd, writer)
        if fd not in self._writes:
            self._writes.add(fd)
            if writer.blocked or not writer.connected:
                self._changed.add(fd)
            else:
                self._untried[fd] = writer

    def _take(self, fd: int, connection: EagerConnection) -> None:
        if fd < 0:
            raise ValueError(f"{connection!r} is closed")
        former = self._selectables.get(fd)
        if former is not None:  # other code has closed its file descriptor
            self._drop(fd)
            lose = (self._disconnectSelectable, former, _lost_file(), False)
            connection.reactor.callLater(0, log.callWithLogger, former, *lose)
        self._selectables[fd] = connection

    def removeReader(self, reader: Any) -> None:
        """See ``IReactorFDSet.removeReader``."""
        if not isinstance(reader, EagerConnection):
            super().removeReader(reader)  # type: ignore[misc]
            return
        fd = reader.fileno()
        if fd < 0:
            fd = self._former_descriptor(reader)
        if fd in self._reads:
            self._reads.remove(fd)
            if fd in self._writes:
                self._changed.add(fd)
            else:
                self._want_nothing(fd)

    def removeWriter(self, writer: Any) -> None:
        """See ``IReactorFDSet.removeWriter``."""
        if not isinstance(writer, EagerConnection):
            super().removeWriter(writer)  # type: ignore[misc]
            return
        fd = writer.fileno()
        if fd < 0:
            fd = self._former_descriptor(writer)
        if fd in self._writes:
            self._writes.remove(fd)
            self._untried.pop(fd, None)
            if fd in self._reads:
                self._changed.add(fd)
            else:
                self._want_nothing(fd)

    def forget(self, connection: EagerConnection) -> None:
        """Forget a connection that is about to be closed.

        If another process also holds the open file description, it would otherwise stay watched,
        although nobody is left to take its events: epoll(7), question 6.
        """
        fd = connection.fileno()
        if fd < 0:
            fd = self._former_descriptor(connection)
        if self._selectables.get(fd) is connection:
            self._drop(fd)

    def _drop(self, fd: int) -> None:
        self._reads.discard(fd)
        self._writes.discard(fd)
        self._untried.pop(fd, None)
        self._want_nothing(fd)

    def _want_nothing(self, fd: int) -> None:
        # At once, because the next connection may get the same file descriptor.
        del self._selectables[fd]
        self._served.pop(fd, None)
        self._changed.discard(fd)
        if self._watched.pop(fd, 0):
            with contextlib.suppress(OSError):  # other code has closed it
                self._poller.unregister(fd)

    def _former_descriptor(self, connection: EagerConnection) -> int:
        if connection.disconnected:
            return -1
        # Other code has closed the socket.
        return next((fd for fd, each in self._selectables.items() if each is connection), -1)

    def prepare(self) -> bool:
        """Do what is due before the kernel is asked for events.

        Returns whether something has happened whose effects must not wait for an event.
        """
        has_tried = bool(self._untried)
        if has_tried:
            self._try_writers()
        return (bool(self._changed) and self._watch()) or has_tried

    def serve(self, timeout: float) -> None:
        """Wait for events, at most ``timeout`` seconds (-1: forever), and dispatch them."""
        contexts = context.theContextTracker.currentContext().contexts
        contexts.append(_NO_CONTEXT)
        try:
            served, poller = self._served, self._poller
            if accelerator is not None and poller.__class__ is epoll:
                accelerator.dispatch(self, poller.fileno(), timeout, served, contexts)
                return
            for fd, event in self._wait(timeout):
                connection = served.get(fd)
                if connection is None or event != EPOLLIN:
                    self._serve_event(fd, event)
                    continue
                # As in _doReadOrWrite; inline because it is by far the most frequent case.
                contexts[-1] = connection
                try:
                    why, has_read = connection.doRead(), True
                except BaseException as raised:
                    why, has_read = raised, False
                if why is not None:
                    self._end_reading(connection, why, has_read)
                    why = None  # or its traceback would keep what leads to it
        finally:
            contexts.pop()

    def _wait(self, timeout: float) -> Any:
        try:
            return self._poller.poll(timeout, max(1, min(len(self._selectables), _EVENTS)))
        except InterruptedError:
            return ()

    def _end_reading(self, connection: EagerConnection, why: BaseException, has_read: bool) -> None:
        try:
            if not has_read:
                # A ConnectionDone that a protocol raises closes both directions.
                log.err(Failure(why, type(why), why.__traceback__))
            self._disconnectSelectable(connection, why, has_read)
        except KeyboardInterrupt:
            raise
        except BaseException:
            log.err()

    def _serve_event(self, fd: int, event: int) -> None:
        contexts = context.theContextTracker.currentContext().contexts
        connection = self._served.get(fd)
        if connection is None:
            contexts[-1] = _NO_CONTEXT
            self._serve_other(fd, event)
            return
        contexts[-1] = connection
        try:
            self._doReadOrWrite(connection, fd, event)
        except KeyboardInterrupt:
            raise
        except BaseException:
            log.err()

    def _serve_other(self, fd: int, event: int) -> None:
        other = self._selectables.get(fd)
        # An eager connection here is new: the event was for the descriptor's previous owner.
        if other is not None and not isinstance(other, EagerConnection):
            log.callWithLogger(other, self._doReadOrWrite, other, fd, event)

    def _try_writers(self) -> None:
        untried, self._untried = self._untried, {}
        contexts = context.theContextTracker.currentContext().contexts
        contexts.append(_NO_CONTEXT)
        try:
            for fd, writer in untried.items():
                if self._selectables.get(fd) is writer and self._is_tried(fd):
                    contexts[-1] = writer
                    try:
                        self._try(writer)
                    except KeyboardInterrupt:
                        self._changed.update(
                            fd for fd, each in untried.items() if self._selectables.get(fd) is each
                        )
                        raise
                    except BaseException:
                        log.err()
                    # By now its file descriptor may belong to another connection.
                    if self._selectables.get(fd) is writer and self._is_tried(fd):
                        self._changed.add(fd)
        finally:
            contexts.pop()

    def _is_tried(self, fd: int) -> bool:
        return fd in self._writes and fd not in self._untried

    def _try(self, writer: EagerConnection) -> None:
        why: Any
        try:
            why = writer.doWrite() if writer.fileno() != -1 else _lost_file()
        except BaseException as raised:  # as in PosixReactorBase._doReadOrWrite
            why = raised
            log.err()
        if why is main.CONNECTION_DONE:
            writer.connectionLost(_DONE)
        elif why is not None and why is not main.CONNECTION_LOST:
            self._disconnectSelectable(writer, why, False)
        # A lost connection stays a writer, and is watched: the kernel will report how it ended, and
        # data that arrived before is read first.

    def _watch(self) -> bool:
        """Update what the kernel watches; return whether a connection was lost by that."""
        lost = False
        while self._changed:
            fd = self._changed.pop()
            wanted = EPOLLIN if fd in self._reads else 0
            if self._is_tried(fd):
                wanted |= EPOLLOUT
            self._served[fd] = self._selectables[fd]
            watched = self._watched.get(fd, 0)
            if wanted == watched:
                continue
            try:
                if not watched:
                    self._poller.register(fd, wanted)
                elif wanted:
                    self._poller.modify(fd, wanted)
                else:
                    self._poller.unregister(fd)
            except OSError:
                self._lost_descriptor(fd)
                lost = True
            else:
                self._watched[fd] = wanted
        return lost

    def _lost_descriptor(self, fd: int) -> None:
        self._watched.pop(fd, None)
        connection = self._served.pop(fd, None)
        if connection is not None:
            log.callWithLogger(
                connection, self._disconnectSelectable, connection, _lost_file(), False
            )


def _lost_file() -> Exception:
    """Return the error for a connection whose file descriptor other code has closed."""
    return error.ConnectionFdescWentAway("File descriptor lost")
