"""asyncio_protocol.py PORT echo|hello|lines=N [asyncio|uvloop]: a Protocol, on either loop.

Both loops set TCP_NODELAY by themselves.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from typing import cast


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


async def main(port: int, mode: str) -> None:
    """Serve until killed."""
    name, _, count = mode.partition("=")
    Lines.count = int(count or 1)
    protocol = {"echo": Echo, "hello": Hello, "lines": Lines}[name]
    loop = asyncio.get_running_loop()
    server = await loop.create_server(protocol, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    # Both modules have a function of this name.
    event_loop = importlib.import_module(sys.argv[3] if len(sys.argv) > 3 else "asyncio")
    event_loop.new_event_loop().run_until_complete(main(int(sys.argv[1]), sys.argv[2]))
