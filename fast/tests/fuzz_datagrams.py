"""fuzz_datagrams.py SECONDS [SEED]: whatever a protocol does on an accelerated UDP port.

As ``fuzz.py``. It ends with an error if a peer got what was not written for it, or at another
place in the order.
"""

from __future__ import annotations

import contextlib
import gc
import random
import socket
import sys
import time
from collections import Counter, deque
from typing import Any

from twisted.logger import globalLogBeginner

from sockservices.answering import AnsweringProtocol
from sockservices.transports import EagerReactor
from sockservices.transports.udp import UdpPort

PEERS = 6


class Unruly(AnsweringProtocol):
    """Does something at random with whatever it receives."""

    noisy = False

    def __init__(self, fuzz: Fuzz) -> None:
        self._fuzz = fuzz

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        assert type(datagram) is bytes
        self._fuzz.heard(datagram, addr)
        for _ in range(self._fuzz.random.choice((0, 1, 1, 2))):
            self._fuzz.act(self, datagram, addr)


class Fuzz:
    """One port, and its peers."""

    def __init__(self, reactor: Any, seed: int) -> None:
        self.random = random.Random(seed)
        self.reactor = reactor
        self.depth = 0
        self.done: Counter[str] = Counter()
        self.host = self.random.choice(("127.0.0.1", "", "::1", "::"))
        self.port: Any = UdpPort(0, Unruly(self), self.host, reactor)
        self.port.startListening()
        ipv6 = ":" in self.host
        self.peers = [
            socket.socket(socket.AF_INET6 if ipv6 else socket.AF_INET, socket.SOCK_DGRAM)
            for _ in range(PEERS)
        ]
        number = self.port.getHost().port
        for each in self.peers:
            asked = "::1" if ipv6 else self.random.choice(("127.0.0.1", "127.0.0.2"))
            if self.host == "127.0.0.1":
                asked = self.host
            each.connect((asked, number))
            each.setblocking(False)
        self.known: list[Any] = [None]
        self.expected: dict[int, deque[bytes]] = {}
        self.sent = 0

    def heard(self, datagram: bytes, addr: Any) -> None:
        if self.random.random() < 0.2:
            self.known.append(self.random.choice((addr, tuple(addr))))

    def expect(self, datagram: bytes, addr: Any) -> None:
        self.expected.setdefault(addr[1], deque()).append(datagram)

    def act(self, protocol: Unruly, datagram: bytes, addr: Any) -> None:
        port, deed = self.port, self.random.choice(DEEDS)
        self.done[deed] += 1
        rare = self.random.random() < 0.05
        if deed == "answer":
            self.expect(datagram, addr)
            protocol.answer(datagram, addr)
        elif deed == "write":
            self.expect(datagram, addr)
            port.write(datagram, addr)
        elif deed == "write by name":
            self.expect(datagram, addr)
            port.write(datagram=datagram, addr=addr)
        elif deed == "write an equal":
            other = self.random.choice(self.known) or addr
            self.expect(datagram, other)
            port.write(datagram, tuple(other))
        elif deed == "nonsense":
            with contextlib.suppress(Exception):
                port.answer(*self.random.choice(((), (1,), ("x", addr), (b"", None), (b"", 7, 8))))
        elif deed == "raise":
            raise self.random.choice((ValueError, SystemExit, KeyboardInterrupt))
        elif deed == "turn" and self.depth < 3:
            self.turn()
        elif deed == "pause":
            port.pauseProducing()
            self.reactor.callLater(0, port.resumeProducing)
        elif deed == "collect" and rare:
            gc.collect()
        elif deed == "refuse" and rare:
            port.refuses = lambda _peer: self.random.random() < 0.1
        elif deed == "forget askers" and rare and port._askers is not None:
            port._askers._latest.clear()
        elif deed == "buffer" and rare:
            port._buffer = memoryview(bytearray(self.random.choice((0, 10, 65536))))
        elif deed == "source" and rare and hasattr(addr, "source"):
            addr.source = list(addr.source)

    def turn(self) -> None:
        self.depth += 1
        try:
            self.reactor.iterate(0)
        finally:
            self.depth -= 1

    def step(self) -> None:
        for _ in range(self.random.randrange(20)):
            self.sent += 1
            size = self.random.choice((0, 9, 9, 9, 1000, 60_000))
            with contextlib.suppress(OSError):
                self.random.choice(self.peers).send(b"%d" % self.sent + bytes(size))
        self.turn()
        for each in self.peers:
            wanted = self.expected.setdefault(each.getsockname()[1], deque())
            with contextlib.suppress(BlockingIOError):
                while True:
                    got = each.recv(1 << 17)
                    while wanted and wanted[0] != got:  # the kernel may have dropped some
                        wanted.popleft()
                    assert wanted, "a peer got what was not written for it, or late"
                    wanted.popleft()

    def end(self) -> None:
        self.port.stopListening()
        for _ in range(3):
            self.reactor.iterate(0)
        for each in self.peers:
            each.close()


DEEDS = (
    *("answer", "answer", "answer", "write", "write by name", "write an equal", "nonsense"),
    *("raise", "turn", "pause", "collect", "refuse", "forget askers", "buffer", "source"),
)


def main(seconds: float, seed: int) -> None:
    """Run one seed after the other."""
    globalLogBeginner.beginLoggingTo([], discardBuffer=True, redirectStandardIO=False)
    reactor: Any = EagerReactor()
    reactor.startRunning(installSignalHandlers=False)
    done: Counter[str] = Counter()
    end, first = time.monotonic() + seconds, seed
    while time.monotonic() < end:
        fuzz = Fuzz(reactor, seed)
        try:
            for _ in range(200):
                fuzz.step()
        except BaseException:
            print(f"seed {seed}", file=sys.stderr)
            raise
        fuzz.end()
        done += fuzz.done
        seed += 1
    del fuzz
    gc.collect()
    left = sum(isinstance(each, UdpPort) for each in gc.get_objects())
    print(f"{seed - first} ports, {sum(done.values())} deeds: {dict(done)}")
    assert left < 5, f"{left} ports stay"
    assert set(done) == set(DEEDS), "not every deed was done"


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1)
