"""TLS that ends as soon as either side has ended, with everything that was written delivered.

Twisted's TLS keeps small writes for the next turn, and loses them if the peer's close_notify comes
before: an echo loses the end of its answer. It also keeps its producer when TLS has ended. A
producer that is paused at that moment has nothing to write any more, so the transport below waits
for it forever, with the socket in CLOSE-WAIT. And it fails itself if a close_notify comes during
the handshake, because it expects a reason.

Private names of Twisted used here, checked with 24.7 to 26.10: ``_aborted``, ``_aggregator``,
``_lostTLSConnection``, ``_producer``, ``_shutdownTLS``, ``_tlsShutdownFinished``.
"""

from __future__ import annotations

from typing import Any

from OpenSSL.SSL import SENT_SHUTDOWN, SysCallError
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.protocols.tls import BufferingTLSTransport
from twisted.python.failure import Failure

_log = Logger(namespace="sockservices")


class Delivering(BufferingTLSTransport):
    """Twisted's transport for TLS, with these mistakes mended."""

    error: Exception | None = None  # the first one, as OpenSSL gave it

    def _shutdownTLS(self) -> None:
        if not self.disconnecting:  # otherwise it has been closed or aborted already
            self._aggregator.flush()
        super()._shutdownTLS()
        # A side that has sent close_notify need not wait for the peer's: RFC 8446, section 6.1.
        below: Any = self.transport
        if self.disconnecting and not self._aborted and getattr(below, "lingers", False):
            tls = self._tlsConnection  # there is none any more if the connection is lost already
            if tls is not None and tls.get_shutdown() & SENT_SHUTDOWN:
                below.loseConnection()

    def _tlsShutdownFinished(self, reason: Any) -> None:
        error = reason.value if reason is not None else None
        if self.error is None:
            self.error = error
        if reason is not None:
            # Its traceback leads back to here, where Twisted has it in a variable: the connection
            # would take memory until all garbage is collected.
            reason.cleanFailure()
        if error is not None and not error.args:  # Twisted expects arguments
            reason = Failure(SysCallError(-1, "Unexpected EOF"))
        super()._tlsShutdownFinished(reason)
        producer = self._producer
        # A transport that is lost has stopped it already, and has forgotten it.
        if producer is not None and getattr(self.transport, "producer", producer) is not None:
            self.unregisterProducer()
            try:  # as Twisted does with one that is registered from now on
                producer.stopProducing()
            except Exception:  # which must keep neither the answer nor the end from anybody
                _log.failure("a producer failed when it was stopped")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """See ``IProtocol.connectionLost``."""
        try:
            super().connectionLost(reason)
        except Exception:
            if not self.connected:  # the protocol was told, and has failed itself
                raise
            _log.failure("the protocol failed on the last data")
            self._lostTLSConnection = True  # so that no more data is delivered
            super().connectionLost(reason)
        finally:
            self._producer = None  # which may refer to this transport, as that of an echo does


def deliver(tls: Any) -> None:
    """Make the TLS of a connection that Twisted has made behave like this transport."""
    if type(tls) is BufferingTLSTransport:
        tls.__class__ = Delivering
