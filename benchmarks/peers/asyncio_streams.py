"""asyncio_streams.py PORT echo|hello [asyncio|uvloop]: StreamReader and StreamWriter.

Both loops set TCP_NODELAY by themselves.
"""

from __future__ import annotations

import asyncio
import importlib
import sys


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send back what arrives."""
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def hello(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer and close."""
    writer.write(b"Hello, world!\n")
    writer.close()


async def main(port: int, mode: str) -> None:
    """Listen until killed."""
    serve = hello if mode == "hello" else echo
    server = await asyncio.start_server(serve, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    # Both modules make their loop by the same name.
    event_loop = importlib.import_module(sys.argv[3] if len(sys.argv) > 3 else "asyncio")
    event_loop.new_event_loop().run_until_complete(main(int(sys.argv[1]), sys.argv[2]))
