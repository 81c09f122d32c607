"""A service and clients on the running reactor, for tests that are coroutines."""

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

LOOPBACK = "tcp:0:interface=127.0.0.1"


@asynccontextmanager
async def serving(
    service: Any,
    listen: Iterable[str] | Listening = (LOOPBACK,),
    *parts: Part,
    **arguments: Any,
) -> AsyncIterator[SocketService]:
    """Serve, and stop at the end.

    Parameters:
        service: a factory or a datagram protocol, as for ``SocketService``.
        listen: endpoint descriptions; without any, a free TCP port of the loopback interface.
        parts: as for ``SocketService``.
        arguments: the others of ``SocketService``.

    Raises ``ListenError``.
    """
    # It is no process of its own: who awaits is told.
    arguments.setdefault("on_failure", lambda _line: None)
    running = SocketService(service, listen, *parts, **arguments)
    running.startService()
    try:
        await running.when_listening()
        yield running
    finally:
        await running.stopService()


class Client(Protocol):
    """A peer for a test: says something, and waits for so many bytes or the end."""

    transport: Any
    """The connection, an ``ITransport``."""

    def __init__(self) -> None:
        self._received = b""
        self._wanted: tuple[int, Deferred[bytes]] | None = None
        self._over = False
        self._ended: list[Deferred[None]] = []

    def send(self, data: bytes) -> None:
        """Send something."""
        self.transport.write(data)

    def end_input(self) -> None:
        """Send no more: half-close."""
        self.transport.loseWriteConnection()

    async def receive(self, count: int) -> bytes:
        """Wait for so many bytes, or for fewer and the end."""
        self._wanted = (count, Deferred())
        result = self._wanted[1]
        self._look()
        return await result

    async def receive_all(self) -> bytes:
        """Wait for all until the end."""
        return await self.receive(1 << 62)

    async def close(self) -> None:
        """End the connection, and wait until that is done."""
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
        listener: which one, from 0.
        reactor: ``None`` is the installed one.

    Raises ``ValueError`` for a listener for datagrams.
    """
    if reactor is None:
        from twisted.internet import reactor
    description = service.descriptions[listener]
    kind, _colon, rest = description.partition(":")
    if kind in ("udp", "unixgram"):
        raise ValueError(f"{description} is for datagrams, which a Client does not send")
    if kind == "tcp":
        rest = rest.replace("0.0.0.0", "127.0.0.1", 1)
    client: Client = await connectProtocol(clientFromString(reactor, f"{kind}:{rest}"), Client())
    return client
