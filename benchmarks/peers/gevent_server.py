"""gevent_server.py PORT echo|hello|lines=N: a greenlet per connection. TCP_NODELAY is not set."""

from __future__ import annotations

import functools
import socket
import sys

from gevent.server import StreamServer


def echo(connection: socket.socket, address: object) -> None:
    """Send back what a peer sends."""
    while data := connection.recv(65536):
        connection.sendall(data)


def lines(count: int, connection: socket.socket, address: object) -> None:
    """Send back what a peer sends several times, with one write each."""
    while data := connection.recv(65536):
        for _ in range(count):
            connection.sendall(data)


def hello(connection: socket.socket, address: object) -> None:
    """Greet the peer; the server closes the connection when this returns."""
    connection.sendall(b"Hello, world!\n")


if __name__ == "__main__":
    name, _, count = sys.argv[2].partition("=")
    many = functools.partial(lines, int(count or 1))
    serve = {"echo": echo, "hello": hello, "lines": many}[name]
    StreamServer(("127.0.0.1", int(sys.argv[1])), serve, backlog=4096).serve_forever()
