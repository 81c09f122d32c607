"""asyncio_streams.py PORT echo|hello|lines=N [asyncio|uvloop]: StreamReader and StreamWriter.

Both loops set TCP_NODELAY by themselves.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import sys
from collections.abc import Awaitable, Callable


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send back what a peer sends."""
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def lines(count: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send back what a peer sends several times, with one write each."""
    while data := await reader.read(65536):
        for _ in range(count):
            writer.write(data)
        await writer.drain()
    writer.close()


async def hello(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Greet the peer, and close the connection."""
    writer.write(b"Hello, world!\n")
    writer.close()


async def main(port: int, mode: str) -> None:
    """Serve until killed."""
    name, _, count = mode.partition("=")
    many = functools.partial(lines, int(count or 1))
    serve: dict[str, Callable[..., Awaitable[None]]] = {
        "echo": echo,
        "hello": hello,
        "lines": many,
    }
    server = await asyncio.start_server(serve[name], "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    # Both modules have a function of this name.
    event_loop = importlib.import_module(sys.argv[3] if len(sys.argv) > 3 else "asyncio")
    event_loop.new_event_loop().run_until_complete(main(int(sys.argv[1]), sys.argv[2]))
