"""Eager Unix streams: an answer is sent when the protocol has returned, without asking the kernel.

Not at once, because of ``sendFileDescriptor``: a descriptor travels with bytes, and those that
were written just before must still be there to take it along.

Private names of Twisted used here, checked with 24.7 to 26.10: ``_aborting``, ``_makeTransport``,
``_sendmsgQueue``, ``_tempDataLen``, ``_writeDisconnecting``.
"""

from __future__ import annotations

from typing import Any

from twisted.internet import unix

from sockservices.eager.counted import Counting
from sockservices.eager.port import AcceptingPort
from sockservices.eager.transport import EagerConnection


class _Connection(Counting, EagerConnection):
    # Whether it is being read, and whether meanwhile there has been something to write.
    _is_read = False
    _is_answered = False

    _aborting: bool
    _sendmsgQueue: list[int]

    def doRead(self) -> Any:
        """See ``IReadDescriptor.doRead``."""
        self._is_answered = False
        self._is_read = True
        try:
            why = super().doRead()
        finally:
            self._is_read = False
        if self._is_answered and not (why is None and self._only_sends() and self._sends_all()):
            self.startWriting()
        return why

    def doWrite(self) -> Any:
        """See ``IWriteDescriptor.doWrite``."""
        self.blocked = False
        return super().doWrite()

    def startWriting(self) -> None:
        """See ``FileDescriptor.startWriting``."""
        if self._is_read:
            self._is_answered = True
        else:
            super().startWriting()

    def stopWriting(self) -> None:
        """See ``FileDescriptor.stopWriting``."""
        self._is_answered = False
        super().stopWriting()

    def _only_sends(self) -> bool:
        """Whether all that there is to do is to send, and it can be done now."""
        return bool(
            self.connected
            and not self.blocked
            and not self.disconnecting
            and not self._writeDisconnecting
            and not self._aborting
            and (self.producer is None or (self.streamingProducer and not self.producerPaused))
            # A descriptor may wait for the bytes that are to take it along.
            and len(self._sendmsgQueue) <= self._tempDataLen
        )

    def _sends_all(self) -> bool:
        # If it is lost, the kernel tells the reactor, which reads first what has come in before.
        self.blocked = self.doWrite() is not None or bool(self.dataBuffer or self._tempDataLen)
        return not self.blocked


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
