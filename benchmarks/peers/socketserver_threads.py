"""socketserver_threads.py PORT echo|hello: a thread a connection. TCP_NODELAY is not set."""

from __future__ import annotations

import socketserver
import sys


class Echo(socketserver.BaseRequestHandler):
    """Sends back what arrives."""

    def handle(self) -> None:
        """Serve one connection."""
        while data := self.request.recv(65536):
            self.request.sendall(data)


class Hello(socketserver.BaseRequestHandler):
    """Answers and closes."""

    def handle(self) -> None:
        """Serve one connection."""
        self.request.sendall(b"Hello, world!\n")


class Server(socketserver.ThreadingTCPServer):
    """With the backlog that the others have."""

    request_queue_size = 1024
    allow_reuse_address = True
    daemon_threads = True


if __name__ == "__main__":
    handler = Hello if sys.argv[2] == "hello" else Echo
    Server(("127.0.0.1", int(sys.argv[1])), handler).serve_forever()
