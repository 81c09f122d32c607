"""socketserver_threads.py PORT echo|hello|lines=N: a thread per connection.

TCP_NODELAY is not set.
"""

from __future__ import annotations

import socketserver
import sys


class Echo(socketserver.BaseRequestHandler):
    """A connection that sends back what it receives."""

    def handle(self) -> None:
        """Serve one connection."""
        while data := self.request.recv(65536):
            self.request.sendall(data)


class Lines(socketserver.BaseRequestHandler):
    """A connection that sends back what it receives, several times."""

    count: int

    def handle(self) -> None:
        """Serve one connection, with one write each time."""
        while data := self.request.recv(65536):
            for _ in range(self.count):
                self.request.sendall(data)


class Hello(socketserver.BaseRequestHandler):
    """A connection that is greeted and closed."""

    def handle(self) -> None:
        """Serve one connection."""
        self.request.sendall(b"Hello, world!\n")


class Server(socketserver.ThreadingTCPServer):
    """The server, with the same backlog as the others."""

    request_queue_size = 4096
    allow_reuse_address = True
    daemon_threads = True


if __name__ == "__main__":
    name, _, count = sys.argv[2].partition("=")
    Lines.count = int(count or 1)
    handler = {"echo": Echo, "hello": Hello, "lines": Lines}[name]
    Server(("127.0.0.1", int(sys.argv[1])), handler).serve_forever()
