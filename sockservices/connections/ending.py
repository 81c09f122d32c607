"""Ending a connection in order: what the service has written is delivered, then comes the end."""

from __future__ import annotations

from typing import Any

from sockservices.connections.ledger import Connection
from sockservices.transports.closing import close_after_delivery


def end_in_order(connection: Connection, reactor: Any) -> None:
    """Close a connection once everything that its service has written is delivered.

    A producer is stopped, because a transport waits for its producer before it closes. The caller
    limits how long the delivery may take.

    Parameters:
        connection: a live connection.
        reactor: an ``IReactorTime``.
    """
    # The protocol's own transport, because TLS sends an alert before the end.
    transport = getattr(connection.protocol, "transport", None) or connection.transport
    producer = getattr(transport, "producer", None)
    if producer is not None:
        transport.unregisterProducer()
    try:
        if producer is not None and producer is not transport:
            producer.stopProducing()
    finally:
        close_after_delivery(transport, reactor)
