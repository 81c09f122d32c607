"""Connections from a proxy, which show the addresses of the client behind it."""

from __future__ import annotations

from functools import cache
from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.interfaces import ILoggingContext
from twisted.logger import Logger
from twisted.python import log

from sockservices.printable import peer_of_stream

_log = Logger(namespace="sockservices")


class Proxied(FileDescriptor):
    """A mixin for transports; list it before them."""

    # The addresses to show instead of the socket's.
    _shown: tuple[Any, Any] | None = None
    # The data that arrived with the header, until its protocol reads it.
    _rest = b""
    _is_wanted = False

    protocol: Any
    sessionno: int
    logstr: str

    def getPeer(self) -> Any:
        """See ``ITransport.getPeer``."""
        return super().getPeer() if self._shown is None else self._shown[0]

    def getHost(self) -> Any:
        """See ``ITransport.getHost``."""
        return super().getHost() if self._shown is None else self._shown[1]

    def show(self, peer: Any, host: Any) -> None:
        """Show these addresses from now on."""
        self._shown = peer, host

    def hand_over(self, protocol: Any, rest: bytes) -> None:
        """Replace the protocol, connect the new one, and deliver the data that arrived already.

        Many protocols pause at first, until they can store data. The data then waits until they
        resume.
        """
        self.protocol = protocol
        prefix = log_prefix(protocol)
        self.logstr = f"{prefix},{self.sessionno},{getattr(self.getPeer(), 'host', '')}"
        self._rest, self._is_wanted = rest, True
        # The current log context, which the reactor has set, names the proxy.
        log.callWithContext({"system": self.logstr}, self._connect)

    def _connect(self) -> None:
        self.protocol.makeConnection(self)
        self._give_rest()

    def stopReading(self) -> None:
        """See ``IReactorFDSet.removeReader``."""
        self._is_wanted = False
        super().stopReading()

    def startReading(self) -> None:
        """See ``IReactorFDSet.addReader``."""
        if self._rest:
            self._is_wanted = True
            reactor: Any = self.reactor
            reactor.callLater(0, self._give_rest)
        else:
            super().startReading()

    def _give_rest(self) -> None:
        rest = self._rest
        if not (rest and self._is_wanted and self.connected):
            return
        self._rest = b""
        super().startReading()
        try:
            self.protocol.dataReceived(rest)
        except BaseException:  # as Twisted does when it delivers data, but naming the client
            _log.failure(
                "the protocol failed on the first data from {peer}",
                peer=peer_of_stream(self.getPeer()),
            )
            own: Any = self
            own.abortConnection()


@cache
def proxied_kind(transport: type) -> type:
    """Return a subclass of a transport class that is also ``Proxied``."""
    return type(f"Proxied{transport.__name__}", (Proxied, transport), {})


def log_prefix(what: Any) -> str:
    """Return the name of a protocol or factory for the log."""
    context = ILoggingContext(what, None)
    return type(what).__name__ if context is None else str(context.logPrefix())
