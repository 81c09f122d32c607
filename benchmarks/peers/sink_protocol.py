"""sink_protocol.Sink: what ``sock-serve --factory`` runs for the project's own entries."""

from __future__ import annotations

from typing import Any

from twisted.internet.protocol import DatagramProtocol


class Sink(DatagramProtocol):
    """Datagrams that are discarded."""

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """Discard the datagram."""
