"""Connections that come from a proxy, and show who is behind it."""

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
    """To be mixed into transports, before them."""

    # The addresses to show, if they are others than the socket's.
    _shown: tuple[Any, Any] | None = None
    # What came with the header, until the protocol that it is for reads it.
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
        """Connect a protocol in the place of the one before, and give it what came already.

        Many protocols pause at first, until they have somewhere to put what comes: then it waits
        until they resume.
        """
        self.protocol = protocol
        prefix = log_prefix(protocol)
        self.logstr = f"{prefix},{self.sessionno},{getattr(self.getPeer(), 'host', '')}"
        self._rest, self._is_wanted = rest, True
        # The reactor has set the context of what is logged now, and that says the proxy.
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
        except BaseException:  # as Twisted does with what it delivers, but with the client's name
            _log.failure(
                "the protocol failed on what {peer} sent first",
                peer=peer_of_stream(self.getPeer()),
            )
            own: Any = self
            own.abortConnection()


@cache
def proxied_kind(transport: type) -> type:
    """Return a class of transports that are as these, and ``Proxied``."""
    return type(f"Proxied{transport.__name__}", (Proxied, transport), {})


def log_prefix(what: Any) -> str:
    """Return what stands for a protocol or a factory in the log."""
    context = ILoggingContext(what, None)
    return type(what).__name__ if context is None else str(context.logPrefix())
