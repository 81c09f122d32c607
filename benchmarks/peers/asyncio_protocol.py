"""asyncio_protocol.py PORT|PATH MODE [asyncio|uvloop|talyn]: a Protocol, on one of the loops.

The mode is echo, hello or lines=N on a TCP port, tls=CERTIFICATE for echo over TLS, unix for echo
on a Unix stream socket, udp for echo, or sink to discard UDP datagrams.

asyncio and uvloop set TCP_NODELAY by themselves.
"""

from __future__ import annotations

import asyncio
import importlib
import ssl
import sys
from typing import cast

BACKLOG = 4096


class Echo(asyncio.Protocol):
    """A connection that sends back what it receives."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport."""
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Send the data back."""
        self.transport.write(data)


class Lines(Echo):
    """A connection that sends back what it receives, several times."""

    count: int

    def data_received(self, data: bytes) -> None:
        """Send the data back several times, with one write each."""
        for _ in range(self.count):
            self.transport.write(data)


class Hello(asyncio.Protocol):
    """A connection that is greeted and closed."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet the peer, and close the connection."""
        cast(asyncio.Transport, transport).write(b"Hello, world!\n")
        transport.close()


class Sink(asyncio.DatagramProtocol):
    """Datagrams that are discarded."""

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Discard the datagram."""


class EchoDatagrams(asyncio.DatagramProtocol):
    """Datagrams that are sent back."""

    transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport."""
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Send the datagram back."""
        self.transport.sendto(data, addr)


async def main(where: str, mode: str) -> None:
    """Serve until killed."""
    name, _, value = mode.partition("=")
    loop = asyncio.get_running_loop()
    if name in ("udp", "sink"):
        datagrams = EchoDatagrams if name == "udp" else Sink
        await loop.create_datagram_endpoint(datagrams, ("127.0.0.1", int(where)))
        await loop.create_future()
    if name == "lines":
        Lines.count = int(value)
    protocol = {"hello": Hello, "lines": Lines}.get(name, Echo)
    if name == "unix":
        server = await loop.create_unix_server(protocol, where, backlog=BACKLOG)
    else:
        context = None
        if name == "tls":
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(value)
        server = await loop.create_server(
            protocol, "127.0.0.1", int(where), backlog=BACKLOG, ssl=context
        )
    await server.serve_forever()


if __name__ == "__main__":
    module = importlib.import_module(sys.argv[3] if len(sys.argv) > 3 else "asyncio")
    make = module.Loop if module.__name__ == "talyn" else module.new_event_loop
    make().run_until_complete(main(sys.argv[1], sys.argv[2]))
