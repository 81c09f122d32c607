"""Eager Unix streams: what is written is sent at the end of the turn, without asking the kernel.

Not at once, because of ``sendFileDescriptor``: a descriptor travels with bytes, and those that
were written just before must still be there to take it along.

Private names of Twisted used here, checked with 24.7 to 26.10: ``_aborting``,
``_disconnectSelectable``, ``_makeTransport``, ``_sendmsgQueue``, ``_tempDataLen``,
``_writeDisconnecting``.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from twisted.internet import main, unix
from twisted.python import log

from sockservices.eager.port import AcceptingPort
from sockservices.eager.transport import EagerConnection


class _TurnEnd:
    """Those connections of a reactor that have something to send at the end of this turn."""

    def __init__(self) -> None:
        self._waiting: dict[_Connection, None] = {}
        self._call: Any = None

    def add(self, connection: _Connection) -> None:
        # It may have been cancelled, with all others, as test runners do.
        if self._call is None or not self._call.active():
            self._call = connection.reactor.callLater(0, self._send)
        self._waiting[connection] = None

    def discard(self, connection: _Connection) -> None:
        self._waiting.pop(connection, None)

    def _send(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for connection in waiting:
            log.callWithLogger(connection, connection.send_written)


_turn_ends: WeakKeyDictionary[Any, _TurnEnd] = WeakKeyDictionary()


class _Connection(EagerConnection):
    reactor: Any
    _aborting: bool
    _sendmsgQueue: list[int]

    def startWriting(self) -> None:
        """Send at the end of the turn, or, if there is more to it, when the reactor says so."""
        if self._only_sends():
            _turn_ends.setdefault(self.reactor, _TurnEnd()).add(self)
        else:
            self._start_watching()

    def loseConnection(self) -> None:
        """See ``ITransport.loseConnection``."""
        # It starts writing before it notes that it is to close.
        super().loseConnection()
        if self.connected and self.disconnecting:
            self._start_watching()

    def _start_watching(self) -> None:
        if self.reactor in _turn_ends:
            # When the reactor has sent it there must not be a second try: with the writing side
            # closed, send(2) fails also for nothing.
            _turn_ends[self.reactor].discard(self)
        super().startWriting()

    def _only_sends(self) -> bool:
        return bool(
            self.connected
            and not self.blocked
            and not self.disconnecting
            and not self._writeDisconnecting
            and not self._aborting
            and (self.producer is None or (self.streamingProducer and not self.producerPaused))
        )

    def send_written(self) -> None:
        """Send what has been written in this turn."""
        if not self._only_sends() or len(self._sendmsgQueue) > self._tempDataLen:
            # It has been asked to close since then, or a producer waits for its turn, or a
            # descriptor for the bytes that are to take it along.
            if self.connected and not self._aborting:
                super().startWriting()
            return
        why: Any
        try:
            why = self.doWrite()
        except BaseException as raised:  # as the reactor does
            why = raised
            log.err()
        if why is main.CONNECTION_LOST:
            # The reactor finds the same, and reads first what has come in before.
            self.blocked = True
            super().startWriting()
        elif why is not None:
            self.reactor._disconnectSelectable(self, why, False)
        elif self.dataBuffer or self._tempDataLen:
            self.blocked = True
            super().startWriting()


class Server(_Connection, unix.Server):
    """A connection that a port has accepted."""


class Client(_Connection, unix.Client):
    """A connection that we make."""


class Port(AcceptingPort, unix.Port):
    """A listening port; see ``twisted.internet.unix.Port`` for its parameters."""

    transport = Server


class Connector(unix.Connector):
    """Makes a connection; see ``twisted.internet.unix.Connector`` for its parameters."""

    def _makeTransport(self) -> Any:
        return Client(self.address, self, self.reactor, self.checkPID)
