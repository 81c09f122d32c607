"""TLS that sends what was written before it answers the peer's end.

Twisted's keeps small writes for the next turn, and forgets them when the peer's close_notify comes
in this one: an echo loses the end of its answer.

Private names of Twisted used here, checked with 24.7 to 26.10: ``_aggregator``, ``_shutdownTLS``.
"""

from __future__ import annotations

from typing import Any

from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOFactory


class _Delivering(BufferingTLSTransport):
    def _shutdownTLS(self) -> None:
        if not self.disconnecting:  # else it was asked to close, or to abort, and has done it
            self._aggregator.flush()
        super()._shutdownTLS()


def deliver_at_the_end(factory: Any) -> None:
    """Have a factory make such TLS, if it makes Twisted's."""
    if isinstance(factory, TLSMemoryBIOFactory) and factory.protocol is BufferingTLSTransport:
        factory.protocol = _Delivering
