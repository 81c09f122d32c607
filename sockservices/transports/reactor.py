"""Twisted's epoll(7) reactor with eager transports, with fewer system calls and less Python.

For eager connections, and only for these:

- Changes to what the kernel watches are made once per turn, just before asking for events: a
  connection that is answered and closed in one turn is never registered.
- A writer is tried before it is watched: a close, a half-close or the next piece of a producer
  needs no event from the kernel.
- A readable connection goes straight to its ``doRead``.

Its timers use ``time.monotonic``.

Private names of Twisted used here, checked with 24.7 to 26.10: ``_disconnectSelectable``,
``_doReadOrWrite``, ``_poller``, ``_reads``, ``_selectables``, ``_writes``.
"""

from __future__ import annotations

import contextlib
import sys
from typing import Any

from twisted.internet import main
from twisted.python import context, log

try:
    from select import EPOLLIN, EPOLLOUT

    from twisted.internet.epollreactor import EPollReactor
except ImportError:
    raise ImportError(
        f"the eager reactor needs epoll(7), which {sys.platform} does not have; "
        "eager transports work on any reactor"
    ) from None

from sockservices.transports.clock import keep_steady
from sockservices.transports.streams import EagerMethods
from sockservices.transports.transport import EagerConnection
from sockservices.transports.writers import attempt, lost_file

# One call returns at most this many events; the next call continues where it stopped.
_EVENTS = 1024

_NO_CONTEXT: dict[Any, Any] = {}


class EagerReactor(EagerMethods, EPollReactor):
    """The reactor that ``twistd --reactor=eager`` installs."""

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
        # The number of the current turn: data written in one turn may be sent together.
        self.turn = 0
        super().__init__()
        keep_steady(self)

    def addReader(self, reader: Any) -> None:
        """See ``IReactorFDSet.addReader``."""
        if not isinstance(reader, EagerConnection):
            super().addReader(reader)
            return
        fd = reader.fileno()
        if fd not in self._reads:
            if fd < 0:
                raise ValueError(f"{reader!r} is closed")
            self._reads.add(fd)
            self._selectables[fd] = reader
            self._changed.add(fd)

    def addWriter(self, writer: Any) -> None:
        """See ``IReactorFDSet.addWriter``."""
        if not isinstance(writer, EagerConnection):
            super().addWriter(writer)
            return
        fd = writer.fileno()
        if fd not in self._writes:
            if fd < 0:
                raise ValueError(f"{writer!r} is closed")
            self._writes.add(fd)
            self._selectables[fd] = writer
            if writer.blocked or not writer.connected:
                self._changed.add(fd)
            else:
                self._untried[fd] = writer

    def removeReader(self, reader: Any) -> None:
        """See ``IReactorFDSet.removeReader``."""
        if not isinstance(reader, EagerConnection):
            super().removeReader(reader)
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
            super().removeWriter(writer)
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

    def doPoll(self, timeout: float | None) -> None:
        """Wait for events, at most ``timeout`` seconds (``None``: forever), and dispatch them."""
        self.turn += 1
        contexts = context.theContextTracker.currentContext().contexts
        contexts.append(_NO_CONTEXT)
        try:
            if self._untried:
                self._try_writers(contexts)
                timeout = 0
            if self._changed and self._watch():
                timeout = 0  # a connection was lost: what it set off must not wait for an event
            served = self._served
            for fd, event in self._wait(-1 if timeout is None else timeout):
                connection = served.get(fd)
                if connection is None:
                    contexts[-1] = _NO_CONTEXT
                    self._serve_other(fd, event)
                    continue
                contexts[-1] = connection
                try:
                    if event == EPOLLIN:
                        # As in _doReadOrWrite; inline because it is by far the most frequent case.
                        has_read = True
                        try:
                            why = connection.doRead()
                        except BaseException as raised:
                            # A ConnectionDone that a protocol raises closes both directions.
                            has_read = False
                            why = raised
                            log.err()
                        if why is not None:
                            self._disconnectSelectable(connection, why, has_read)
                    else:
                        self._doReadOrWrite(connection, fd, event)
                except KeyboardInterrupt:
                    raise
                except BaseException:
                    log.err()
        finally:
            contexts.pop()

    doIteration = doPoll

    def _wait(self, timeout: float) -> Any:
        try:
            return self._poller.poll(timeout, min(len(self._selectables), _EVENTS))
        except InterruptedError:
            return ()

    def _serve_other(self, fd: int, event: int) -> None:
        other = self._selectables.get(fd)
        # An eager connection here is new: the event was for the descriptor's previous owner.
        if other is not None and not isinstance(other, EagerConnection):
            log.callWithLogger(other, self._doReadOrWrite, other, fd, event)

    def _try_writers(self, contexts: list[Any]) -> None:
        untried, self._untried = self._untried, {}
        for fd, writer in untried.items():
            if fd in self._writes and fd not in self._untried and self._selectables[fd] is writer:
                contexts[-1] = writer
                try:
                    attempt(writer)
                except KeyboardInterrupt:
                    self._changed.update(
                        fd for fd, each in untried.items() if self._selectables.get(fd) is each
                    )
                    raise
                except BaseException:
                    log.err()
                # By now its file descriptor may belong to another connection.
                ours = self._selectables.get(fd) is writer
                if ours and fd in self._writes and fd not in self._untried:
                    self._changed.add(fd)

    def _watch(self) -> bool:
        """Update what the kernel watches; return whether a connection was lost by that."""
        lost = False
        while self._changed:
            fd = self._changed.pop()
            wanted = EPOLLIN if fd in self._reads else 0
            if fd in self._writes and fd not in self._untried:
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
                connection, self._disconnectSelectable, connection, lost_file(), False
            )


def install() -> None:
    """Install ``EagerReactor`` as the reactor of this process.

    Raises ``ReactorAlreadyInstalledError`` if another is installed.
    """
    main.installReactor(EagerReactor())
