"""twisted_stock.py PORT echo|hello|lines=N: Twisted's own transports, on epoll.

TCP_NODELAY is not set.
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet import epollreactor

epollreactor.install()

from twisted.internet import reactor  # noqa: E402 - the reactor is installed before it is imported
from twisted.internet.protocol import Factory, Protocol  # noqa: E402


class Echo(Protocol):
    """A connection that sends back what it receives."""

    transport: Any

    def dataReceived(self, data: bytes) -> None:
        """Send the data back."""
        self.transport.write(data)


class Lines(Echo):
    """A connection that sends back what it receives, several times."""

    count: int

    def dataReceived(self, data: bytes) -> None:
        """Send the data back several times, with one write each."""
        for _ in range(self.count):
            self.transport.write(data)


class Hello(Protocol):
    """A connection that is greeted and closed."""

    transport: Any

    def connectionMade(self) -> None:
        """Greet the peer, and close the connection."""
        self.transport.write(b"Hello, world!\n")
        self.transport.loseConnection()


if __name__ == "__main__":
    name, _, count = sys.argv[2].partition("=")
    Lines.count = int(count or 1)
    protocol = {"echo": Echo, "hello": Hello, "lines": Lines}[name]
    factory: Any = Factory.forProtocol(protocol)
    reactor.listenTCP(int(sys.argv[1]), factory, backlog=1024, interface="127.0.0.1")
    reactor.run()
