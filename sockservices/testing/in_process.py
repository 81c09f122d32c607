"""Running a service and its clients on the running reactor, for tests that are coroutines."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString, connectProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from sockservices.connections.parts import Part
from sockservices.host.host import SocketService
from sockservices.listening import Listening
from sockservices.printable import unbracketed

LOOPBACK = "tcp:0:interface=127.0.0.1"


@asynccontextmanager
async def serving(
    service: Any,
    listen: Iterable[str] | Listening = (LOOPBACK,),
    *parts: Part,
    **arguments: Any,
) -> AsyncIterator[SocketService]:
    """Serve for the length of a block.

    Parameters:
        service: a factory or a datagram protocol, as for ``SocketService``.
        listen: endpoint descriptions; by default a free TCP port of the loopback interface.
        parts: as for ``SocketService``.
        arguments: the other arguments of ``SocketService``.

    Raises ``ListenError``.
    """
    # A failure must not stop the test process: when_listening() raises it.
    arguments.setdefault("on_failure", lambda _line: None)
    running = SocketService(service, listen, *parts, **arguments)
    running.startService()
    try:
        await running.when_listening()
        yield running
    finally:
        await running.stopService()


class Client(Protocol):
    """A test client: sends bytes, and waits for a number of bytes or the end."""

    transport: Any
    """The connection, an ``ITransport``."""

    def __init__(self) -> None:
        self._received = b""
        self._wanted: tuple[int, Deferred[bytes]] | None = None
        self._over = False
        self._ended: list[Deferred[None]] = []

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self.transport.write(data)

    def end_input(self) -> None:
        """Half-close the connection: send no more."""
        self.transport.loseWriteConnection()

    async def receive(self, count: int) -> bytes:
        """Wait for this many bytes, and return them; fewer if the connection ends."""
        self._wanted = (count, Deferred())
        result = self._wanted[1]
        self._look()
        return await result

    async def receive_all(self) -> bytes:
        """Wait for the end of the connection, and return everything received."""
        return await self.receive(1 << 62)

    async def close(self) -> None:
        """Close the connection, and wait until it is closed."""
        if not self._over:
            self._ended.append(Deferred())
            self.transport.loseConnection()
            await self._ended[-1]

    def dataReceived(self, data: bytes) -> None:
        """See ``IProtocol``."""
        self._received += data
        self._look()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """See ``IProtocol``."""
        self._over = True
        self._look()
        for each in self._ended:
            each.callback(None)

    def _look(self) -> None:
        if self._wanted is None:
            return
        count, result = self._wanted
        if len(self._received) >= count or self._over:
            self._wanted = None
            part, self._received = self._received[:count], self._received[count:]
            result.callback(part)


async def connect(service: SocketService, listener: int = 0, reactor: Any = None) -> Client:
    """Connect to a listener of a service.

    Parameters:
        listener: the index of the listener, from 0.
        reactor: the reactor; ``None`` for the installed one.

    Raises ``ValueError`` for a datagram listener.
    """
    if reactor is None:
        from twisted.internet import reactor
    description = service.descriptions[listener]
    kind, _colon, rest = description.partition(":")
    if kind in ("udp", "unixgram"):
        raise ValueError(f"{description} receives datagrams, which a Client cannot send")
    if kind == "tcp":
        rest = rest.replace("0.0.0.0", "127.0.0.1", 1)
    endpoint = clientFromString(reactor, unbracketed(f"{kind}:{rest}"))
    client: Client = await connectProtocol(endpoint, Client())
    return client
