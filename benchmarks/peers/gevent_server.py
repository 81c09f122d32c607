"""gevent_server.py PORT echo|hello: a greenlet a connection. TCP_NODELAY is not set."""

from __future__ import annotations

import socket
import sys

from gevent.server import StreamServer


def echo(connection: socket.socket, address: object) -> None:
    """Send back what arrives."""
    while data := connection.recv(65536):
        connection.sendall(data)


def hello(connection: socket.socket, address: object) -> None:
    """Answer; the server closes when this returns."""
    connection.sendall(b"Hello, world!\n")


if __name__ == "__main__":
    serve = hello if sys.argv[2] == "hello" else echo
    StreamServer(("127.0.0.1", int(sys.argv[1])), serve, backlog=1024).serve_forever()
