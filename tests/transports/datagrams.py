"""Datagram ports on a reactor of the test's own, and what talks to them."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from twisted.internet.protocol import DatagramProtocol
from zope.interface import implementer

from sockservices.printable import DatagramPeer
from sockservices.service import IAnswering, ITruncationReceiver
from sockservices.transports.datagram_senders import Sender
from sockservices.transports.udp import UdpPort
from sockservices.transports.unix_binding import Access
from sockservices.transports.unix_datagrams import UnixDatagramPort
from tests.fakes import ManualReactor

LONGEST_PAUSE = 1.0  # seconds on the clock of the test; every retry comes sooner


class Recorder(DatagramProtocol):
    """Remembers what it received; does what a test wants it to do on each datagram."""

    noisy = False
    transport: Any

    def __init__(self, then: Callable[[Recorder, bytes], None] | None = None) -> None:
        self.then = then
        self.received: list[tuple[bytes, DatagramPeer]] = []
        self.refused = 0
        self.stopped = 0

    @property
    def datagrams(self) -> list[bytes]:
        return [data for data, _ in self.received]

    def datagramReceived(self, datagram: bytes, addr: DatagramPeer) -> None:
        self.received.append((datagram, addr))
        if self.then is not None:
            self.then(self, datagram)

    def connectionRefused(self) -> None:
        self.refused += 1

    def stopProtocol(self) -> None:
        self.stopped += 1


@implementer(ITruncationReceiver)
class Truncating(Recorder):
    max_datagram_size = 4

    def __init__(self) -> None:
        super().__init__()
        self.truncated: list[tuple[bytes, int, DatagramPeer]] = []

    def datagram_truncated(self, data: bytes, size: int, peer: DatagramPeer) -> None:
        self.truncated.append((data, size, peer))


def close(port: UdpPort | UnixDatagramPort, reactor: ManualReactor) -> None:
    port.stopListening()
    reactor.advance(0)


@contextmanager
def listening(
    port: UdpPort | UnixDatagramPort, reactor: ManualReactor
) -> Iterator[UdpPort | UnixDatagramPort]:
    port.startListening()
    try:
        yield port
    finally:
        if port.connected:
            close(port, reactor)


class Udp:
    """A UDP port on the loopback interface, and a socket that talks to it."""

    def __init__(
        self, protocol: DatagramProtocol, interface: str = "127.0.0.1", family: int = socket.AF_INET
    ) -> None:
        self.protocol = protocol
        self.reactor = ManualReactor()
        self.port = UdpPort(0, protocol, interface, self.reactor)
        self.port.startListening()
        self.peer = socket.socket(family, socket.SOCK_DGRAM)
        self.peer.setblocking(False)
        self.address: Any = self.port.getHost()
        self.peer.connect((interface, self.address.port))
        self.name = self.peer.getsockname()[:2]

    def say(self, data: bytes) -> None:
        self.peer.send(data)

    def __enter__(self) -> Udp:
        return self

    def __exit__(self, *_: object) -> None:
        self.peer.close()
        if self.port.connected:
            close(self.port, self.reactor)


class Unix:
    """A Unix datagram port in a folder, and a bound socket that talks to it."""

    def __init__(self, folder: Path, protocol: DatagramProtocol, mode: int = 0o600) -> None:
        self.path = folder / "port"
        self.reactor = ManualReactor()
        self.port = UnixDatagramPort(os.fsencode(self.path), protocol, Access(mode), self.reactor)
        self.port.startListening()
        self.peer = bound(folder / "peer")
        self.name = str(folder / "peer")

    def say(self, data: bytes) -> None:
        self.peer.sendto(data, str(self.path))

    def __enter__(self) -> Unix:
        return self

    def __exit__(self, *_: object) -> None:
        self.peer.close()
        if self.port.connected:
            close(self.port, self.reactor)


def bound(path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    made.setblocking(False)
    made.bind(str(path))
    return made


def fill(path: str) -> None:
    """Send to a Unix socket until it takes no more from anybody."""
    while True:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            sender.connect(path)
            sent = 0
            try:
                while True:
                    sender.send(b"filling")
                    sent += 1
            except BlockingIOError:
                if not sent:
                    return


def drain(receiver: socket.socket) -> list[bytes]:
    """Read what a socket has, but for what ``fill`` put there."""
    received = []
    while True:
        try:
            received.append(receiver.recv(1 << 18))
        except BlockingIOError:
            return [each for each in received if each != b"filling"]


@implementer(IAnswering)
class Answering(Recorder):
    """Answers what it receives, and sends the same to others."""

    def __init__(self, *others: DatagramPeer) -> None:
        super().__init__()
        self._others = others

    def datagramReceived(self, datagram: bytes, addr: DatagramPeer) -> None:
        super().datagramReceived(datagram, addr)
        for each in (addr, *self._others):
            self.transport.answer(datagram, each)


def of_another_user(sender: Any) -> Sender:
    other = Sender(sender)
    other.uid = sender.uid + 1
    return other


def held_back(port: UdpPort | UnixDatagramPort) -> tuple[int, int]:
    return port.datagrams_unanswered, port.datagrams_dropped
