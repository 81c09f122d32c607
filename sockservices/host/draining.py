"""Asking connections to finish when a stop begins, also those of protocols that are not ours.

A protocol that provides ``IDrainable`` is asked once, by ``drain``. Twisted's web server and
autobahn's WebSocket protocol do not know ``IDrainable``. ``drain_foreign`` asks them in their own
words, again and again, because they can finish only between two requests. Neither package is
imported for that.
"""

from __future__ import annotations

import sys
from typing import Any

from sockservices.connections.ledger import Connection
from sockservices.service import IDrainable

_GOING_AWAY = 1001  # RFC 6455, section 7.4.1


def drain(connection: Connection) -> None:
    """Ask a connection to finish, once, if its protocol provides ``IDrainable``."""
    drainable = IDrainable(connection.protocol, None)
    if drainable is not None:
        drainable.drain()


def drain_foreign(connection: Connection) -> None:
    """Ask a connection to finish if its protocol is a known one of another package."""
    protocol = connection.protocol
    if IDrainable(protocol, None) is not None:
        return
    # Twisted's web server wraps its channel, which a bound method reveals.
    channel: Any = getattr(getattr(protocol, "connectionMade", None), "__self__", None)
    if _is_a(channel, "twisted.web.http", "HTTPChannel"):
        _drain_http(channel, connection)
    elif _is_a(channel, "twisted.web._http2", "H2Connection"):
        _drain_http2(channel, connection)
    elif _is_a(protocol, "autobahn.websocket.protocol", "WebSocketProtocol"):
        _drain_websocket(protocol)


def _is_a(what: Any, module: str, name: str) -> bool:
    kind = getattr(sys.modules.get(module), name, None)
    return kind is not None and isinstance(what, kind)


def _drain_http(channel: Any, connection: Connection) -> None:
    if channel.requests:
        channel.persistent = False
        request = channel.requests[0]
        if not request.startedWriting:
            request.responseHeaders.setRawHeaders(b"connection", [b"close"])
    elif connection.bytes_in:  # otherwise it is new, and its first request may be on its way
        channel.loseConnection()


def _drain_http2(channel: Any, connection: Connection) -> None:
    if connection.bytes_in and not channel.streams and not channel.transport.disconnecting:
        channel.timeoutConnection()  # sends GOAWAY, and closes
        channel.transport.unregisterProducer()  # TLS would not close before, but for 15 seconds


def _drain_websocket(protocol: Any) -> None:
    if protocol.state == protocol.STATE_OPEN:
        protocol.sendCloseFrame(code=_GOING_AWAY)
