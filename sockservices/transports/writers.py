"""Writers that are tried before they are watched, since the kernel will most likely take the data.

Private names of Twisted used here, checked with 24.7 to 26.10: ``_disconnectSelectable``. Beside
these, ``doIteration`` of a reactor is replaced by one that counts.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import Any

from twisted.internet import error, main
from twisted.internet.interfaces import IWriteDescriptor
from twisted.python import log
from twisted.python.failure import Failure
from zope.interface import implementer

from sockservices.transports.transport import EagerConnection

_DONE = Failure(main.CONNECTION_DONE)


def attempt(writer: EagerConnection) -> None:
    """Let a writer write what it can; close it if it is done or has failed."""
    why: Any
    try:
        why = writer.doWrite() if writer.fileno() != -1 else lost_file()
    except BaseException as raised:  # as in PosixReactorBase._doReadOrWrite
        why = raised
        log.err()
    if why is main.CONNECTION_DONE:
        writer.connectionLost(_DONE)
    elif why is not None and why is not main.CONNECTION_LOST:
        writer.reactor._disconnectSelectable(writer, why, False)
    # A lost connection stays a writer, and is watched: the kernel will report how it ended, and
    # data that arrived before is read first.


def watch(add: Callable[[Any], object], connection: EagerConnection) -> None:
    """Have a reactor watch a connection; end it if other code has closed its file descriptor."""
    try:
        add(connection)
    except (OSError, ValueError):
        log.callWithLogger(connection, connection.connectionLost, Failure(lost_file()))


def lost_file() -> Exception:
    """Return the error for a connection whose file descriptor other code has closed."""
    return error.ConnectionFdescWentAway("File descriptor lost")


def untried_of(reactor: Any) -> Untried:
    """Return the ``Untried`` of a reactor; create it if there is none."""
    found: Untried | None = vars(reactor).get("_sockservices_untried")
    if found is None:
        found = reactor._sockservices_untried = Untried(reactor)
    return found


@implementer(IWriteDescriptor)
class Untried:
    """The untried writers of a reactor that does not try them by itself.

    To the reactor, it is one writer that is always ready while it has any. So its writers are
    tried when watched ones would be, with one poll of the kernel for all of a turn.

    Parameters:
        reactor: an ``IReactorFDSet``.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._added: dict[EagerConnection, int] = {}  # with the turn in which each was added
        self._turn = 0
        # Now, because closing a connection must not need a new file descriptor.
        self._descriptors = os.pipe()
        weakref.finalize(self, _close, self._descriptors)
        # Some reactors take their turns elsewhere: in the loop of asyncio, or of a GUI toolkit.
        self._knows_turns = False
        wait = reactor.doIteration

        def wait_for_the_next_turn(delay: float | None) -> None:
            self._knows_turns = True
            self._turn += 1
            wait(delay)

        reactor.doIteration = wait_for_the_next_turn

    def turn(self) -> int:
        """Return the number of the current turn; if turns are unknown, a new number each time."""
        if not self._knows_turns:
            self._turn += 1
        return self._turn

    def add(self, writer: EagerConnection) -> None:
        """Try a writer when the reactor next handles writers."""
        self._added.setdefault(writer, self._turn)
        self._reactor.addWriter(self)  # again, because removeAll() may have been called

    def discard(self, writer: EagerConnection) -> None:
        """Remove a writer, if it is to be tried."""
        self._added.pop(writer, None)

    def doWrite(self) -> None:
        """See ``IWriteDescriptor.doWrite``."""
        now = self.turn()
        for writer, turn in list(self._added.items()):
            # Skip those added in this turn, for which the kernel has not been polled yet, and those
            # that were tried or removed meanwhile.
            if turn < now and self._added.get(writer) == turn:
                log.callWithLogger(writer, attempt, writer)
                if self._added.get(writer) == turn:
                    self._watch(writer)
        if not self._added:
            self._reactor.removeWriter(self)

    def _watch(self, writer: EagerConnection) -> None:
        del self._added[writer]
        watch(self._reactor.addWriter, writer)

    def connectionLost(self, reason: Failure) -> None:
        """Close the waiting writers, as the reactor closes all others when it stops."""
        if isinstance(reason.value, KeyboardInterrupt):  # which must leave the reactor
            if self._added:
                self._reactor.addWriter(self)
            raise reason.value
        lost, self._added = self._added, {}
        for writer in lost:
            log.callWithLogger(writer, writer.connectionLost, reason)

    def logPrefix(self) -> str:
        """See ``ILoggingContext.logPrefix``."""
        return "-"

    def fileno(self) -> int:
        """Return a file descriptor that is always writable."""
        return self._descriptors[1]


def _close(descriptors: tuple[int, int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
