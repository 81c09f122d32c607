"""twisted_stock.py PORT|PATH MODE: Twisted's own transports, on epoll.

The mode is echo, hello or lines=N on a TCP port, tls=CERTIFICATE for echo over TLS, unix for echo
on a Unix stream socket, udp for echo, or sink to discard UDP datagrams. Any other
mode is echo on a TCP port.


TCP_NODELAY is not set.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from twisted.internet import epollreactor

epollreactor.install()

from twisted.internet import reactor as installed  # noqa: E402 - the reactor is installed before it is imported
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol  # noqa: E402

reactor: Any = installed
BACKLOG = 4096


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


class EchoDatagrams(DatagramProtocol):
    """Datagrams that are sent back."""

    transport: Any

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """Send the datagram back."""
        self.transport.write(datagram, addr)


class Sink(DatagramProtocol):
    """Datagrams that are discarded."""

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """Discard the datagram."""


def listen(where: str, mode: str) -> None:
    """Listen as the command line says."""
    name, _, value = mode.partition("=")
    if name in ("udp", "sink"):
        datagrams = EchoDatagrams() if name == "udp" else Sink()
        reactor.listenUDP(int(where), datagrams, interface="127.0.0.1")
        return
    if name == "lines":
        Lines.count = int(value)
    factory: Any = Factory.forProtocol({"hello": Hello, "lines": Lines}.get(name, Echo))
    if name == "unix":
        reactor.listenUNIX(where, factory, backlog=BACKLOG)
    elif name == "tls":
        # Not loaded where it is not used.
        from twisted.internet.ssl import CertificateOptions, PrivateCertificate

        both = PrivateCertificate.loadPEM(Path(value).read_text())
        context = CertificateOptions(
            both.privateKey.original, both.original, enableSessionTickets=True
        )
        reactor.listenSSL(int(where), factory, context, backlog=BACKLOG, interface="127.0.0.1")
    else:
        reactor.listenTCP(int(where), factory, backlog=BACKLOG, interface="127.0.0.1")


if __name__ == "__main__":
    listen(*sys.argv[1:])
    reactor.run()
