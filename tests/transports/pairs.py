"""A connection that a port has accepted, and the plain socket at its other end."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from sockservices.transports import EagerStreams
from sockservices.transports.streams import StockStreams
from tests.transports.reactors import turn_until


class Remembering(Protocol):
    """Remembers what it received, and why it has ended."""

    transport: Any

    def __init__(self) -> None:
        self.received = b""
        self.reasons: list[Failure] = []

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.reasons.append(reason)


class Pair:
    """A connection, and its peer.

    Parameters:
        reactor: a reactor that runs turn by turn.
        kind: what makes its transports.
        folder: where to make a Unix socket; on TCP without it.
        begun: called with the port, before anybody connects.
    """

    def __init__(
        self,
        reactor: Any,
        kind: type[EagerStreams] | type[StockStreams],
        folder: Path | None = None,
        begun: Callable[[Any], object] = lambda _port: None,
    ) -> None:
        self.reactor = reactor
        self.protocol = Remembering()
        factory = Factory.forProtocol(lambda: self.protocol)
        factory.noisy = False
        streams = kind(reactor)
        if folder is None:
            self.port: Any = streams.listenTCP(0, factory, interface="127.0.0.1")
            self.peer = socket.socket()
        else:
            self.port = streams.listenUNIX(str(folder / "socket"), factory)
            self.peer = socket.socket(socket.AF_UNIX)
        begun(self.port)
        host = self.port.getHost()
        self.peer.connect(("127.0.0.1", host.port) if folder is None else host.name)
        self.peer.settimeout(30)
        self.until(lambda: self.protocol.transport)
        self.transport: Any = self.protocol.transport
        for _ in range(3):  # found writable, it is no longer new
            reactor.iterate(0)

    def until(self, met: Callable[[], Any]) -> None:
        turn_until(self.reactor, met)

    def read_all(self) -> bytes:
        """Read what the peer gets until the end of it, turn by turn; raises if it is a reset."""
        self.peer.setblocking(False)
        read: list[bytes] = []

        def is_over() -> bool:
            try:
                read.append(self.peer.recv(1 << 20))
            except BlockingIOError:
                return False
            return read[-1] == b""

        self.until(is_over)
        return b"".join(read)

    def __enter__(self) -> Pair:
        return self

    def __exit__(self, *_: object) -> None:
        self.peer.close()


class TlsPeer:
    """TLS at the peer's end of a pair, which does only what it is told to do.

    Parameters:
        pair: the connection.
    """

    def __init__(self, pair: Pair) -> None:
        self._pair = pair
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self.tls = context.wrap_bio(self._incoming, self._outgoing)

    def shake_hands(self) -> None:
        """Complete the handshake, turn by turn."""
        self._pair.peer.setblocking(False)
        self._pair.until(self._has_shaken_hands)
        for _ in range(3):  # so that our side has read the last of it
            self._pair.reactor.iterate(0.01)

    def _has_shaken_hands(self) -> bool:
        with suppress(BlockingIOError):
            self._incoming.write(self._pair.peer.recv(1 << 16))
        with suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
        self.send()
        return self.tls.version() is not None

    def send(self) -> None:
        """Send what TLS has made."""
        self._pair.peer.sendall(self._outgoing.read())

    def read_all(self) -> bytes:
        """Read until the end of file; return the plain text."""
        self._incoming.write(self._pair.read_all())
        read = b""
        with suppress(ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            while more := self.tls.read(1 << 16):
                read += more
        return read
