"""TLS that sends all written data before it answers the peer's close_notify.

Twisted's TLS keeps small writes for the next turn, and loses them if the peer's close_notify comes
before: an echo loses the end of its answer.

Private names of Twisted used here, checked with 24.7 to 26.10: ``_aggregator``, ``_shutdownTLS``.
"""

from __future__ import annotations

from typing import Any

from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOFactory


class _Delivering(BufferingTLSTransport):
    def _shutdownTLS(self) -> None:
        if not self.disconnecting:  # otherwise it has been closed or aborted already
            self._aggregator.flush()
        super()._shutdownTLS()


def deliver_at_the_end(factory: Any) -> None:
    """Make a TLS factory of Twisted use this transport."""
    if isinstance(factory, TLSMemoryBIOFactory) and factory.protocol is BufferingTLSTransport:
        factory.protocol = _Delivering
