"""A key-value store: an example of length-prefixed messages, and of client certificates.

A message is four bytes of length, then ``SET key value``, ``GET key`` or ``DEL key``; a key has no
spaces, a value is any bytes. An answer has the same form: ``OK``, ``= value``, ``NONE`` or ``ERR
reason``. Each client has its own keys. It is identified by the name in its certificate, which the
service requires with --tls-client-ca; without TLS, all clients share the same keys.
"""

from __future__ import annotations

from typing import Any

import attrs
from twisted.internet.protocol import Factory
from twisted.protocols.basic import Int32StringReceiver

from sockservices import setting, whole_number


class KeyValue(Int32StringReceiver):
    """One connection."""

    transport: Any

    def __init__(self, factory: KeyValueFactory) -> None:
        self._factory = factory
        self.MAX_LENGTH = factory.max_message

    def connectionMade(self) -> None:
        """Stop reading from a peer that does not read its answers."""
        self.transport.registerProducer(self.transport, True)

    def stringReceived(self, string: bytes) -> None:
        """Answer a message."""
        verb, _space, rest = string.partition(b" ")
        self.sendString(self._answer(verb, rest))

    def lengthLimitExceeded(self, length: int) -> None:
        """Send an error, and close the connection."""
        self.sendString(b"ERR a message has at most %d bytes" % self.MAX_LENGTH)
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def _answer(self, verb: bytes, rest: bytes) -> bytes:
        key, _space, value = rest.partition(b" ")
        kept = self._factory.kept_for(self._client())
        if not key:
            return b"ERR a key is missing"
        if verb == b"GET":
            return b"= " + kept[key] if key in kept else b"NONE"
        if verb == b"DEL":
            return b"OK" if kept.pop(key, None) is not None else b"NONE"
        if verb == b"SET":
            if key not in kept and len(kept) >= self._factory.max_keys:
                return b"ERR there are %d keys, and may not be more" % len(kept)
            kept[key] = value
            return b"OK"
        return b"ERR wanted is SET, GET or DEL"

    def _client(self) -> str:
        # Call this only after the first message, when the handshake is certainly complete.
        certificate = getattr(self.transport, "getPeerCertificate", lambda: None)()
        return certificate.get_subject().CN if certificate is not None else ""


@attrs.define(eq=False, slots=False)
class KeyValueFactory(Factory):
    """The factory, with the keys of all clients, which are only in memory."""

    max_keys: int = setting(
        default=10_000, converter=whole_number(1), help="Limit each client to this many keys."
    )
    max_message: int = setting(
        default=65_536,
        converter=whole_number(16),
        help="Reject messages longer than this many bytes.",
    )
    _kept: dict[str, dict[bytes, bytes]] = attrs.field(init=False, factory=dict)
    noisy = False

    def kept_for(self, client: str) -> dict[bytes, bytes]:
        """Return the keys and values of a client."""
        return self._kept.setdefault(client, {})

    def buildProtocol(self, addr: object) -> KeyValue:
        """See ``IProtocolFactory``."""
        return KeyValue(self)
