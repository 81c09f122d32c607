"""The contract of datagram services: rules that hold whatever arrives."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.internet.error import MessageLengthError
from twisted.internet.interfaces import IUDPTransport
from twisted.internet.protocol import AbstractDatagramProtocol
from zope.interface import implementer

from sockservices.printable import DatagramPeer
from sockservices.service import IBatchReceiver, IDatagramFactory, ITruncationReceiver
from sockservices.testing import rules
from sockservices.testing.checking import (
    Watched,
    built_by,
    check,
    check_blocking,
    not_built,
    reference_to,
    running,
    shown,
)

__tracebackhide__ = True  # as in checking.py

_LARGEST = 65507  # bytes: the largest UDP datagram over IPv4
_PEERS: tuple[DatagramPeer, ...] = (("127.0.0.1", 40000), ("192.0.2.1", 1), ("2001:db8::1", 9))


@implementer(IUDPTransport)
class _Port:
    """A datagram listener in memory."""

    def __init__(self, protocol: Any) -> None:
        self.protocol = protocol
        self.sent: list[tuple[bytes, DatagramPeer]] = []
        self.longest = 0.0  # seconds that the longest call into the protocol took
        self._call(protocol.makeConnection, self)

    def receive(self, data: bytes, peer: DatagramPeer) -> None:
        """Deliver a datagram to the service."""
        self._call(self.protocol.datagramReceived, data, peer)

    def receive_together(self, datagrams: list[tuple[bytes, DatagramPeer]]) -> None:
        """Deliver several datagrams, in one batch if the service takes batches."""
        if IBatchReceiver.providedBy(self.protocol):
            self._call(self.protocol.datagrams_received, datagrams)
        else:
            for data, peer in datagrams:
                self.receive(data, peer)

    def receive_truncated(self, data: bytes, size: int, peer: DatagramPeer) -> None:
        """Deliver the beginning of a longer datagram."""
        if ITruncationReceiver.providedBy(self.protocol):
            self._call(self.protocol.datagram_truncated, data, size, peer)
        else:
            self.receive(data, peer)

    def stop(self) -> None:
        """Stop the listener."""
        self._call(self.protocol.doStop)

    def _call(self, function: Any, *arguments: Any) -> None:
        begun = perf_counter()
        try:
            function(*arguments)
        finally:
            self.longest = max(self.longest, perf_counter() - begun)

    # IUDPTransport and related interfaces

    def write(self, packet: bytes, addr: Any = None) -> None:
        if addr is None:
            raise TypeError("there is no address to send to: the peer is None")
        if len(packet) > _LARGEST:
            raise MessageLengthError(f"{len(packet)} bytes do not fit in one datagram")
        self.sent.append((packet, addr))

    def writeSequence(self, seq: Any, addr: Any = None) -> None:
        self.write(b"".join(seq), addr)

    def getHost(self) -> IPv4Address:
        return IPv4Address("UDP", "127.0.0.1", 7000)

    def pauseProducing(self) -> None: ...

    def resumeProducing(self) -> None: ...

    def stopProducing(self) -> None: ...

    def stopListening(self) -> None: ...

    def connect(self, host: str, port: int) -> None: ...

    def getBroadcastAllowed(self) -> bool:
        return False

    def setBroadcastAllowed(self, enabled: object) -> None: ...


class DatagramServiceContract:
    """The rules of a datagram service, as tests; see ``StreamServiceContract``."""

    factory: Callable[[], Any]
    """A ``DatagramProtocol`` class, an ``IDatagramFactory`` class, or a function or method that
    returns an instance of one of them."""
    examples: Sequence[bytes] = ()
    """Datagrams that mean something to the service."""
    inputs: st.SearchStrategy[bytes] | None = None
    """A Hypothesis strategy for such datagrams."""
    max_blocking: float = 0.5
    """The seconds that one call into the protocol may take."""

    def _listen(self) -> _Port:
        built = built_by(self)
        if IDatagramFactory.providedBy(built):
            built = built.build_datagram_protocol()  # type: ignore[no-untyped-call]
        if not isinstance(built, AbstractDatagramProtocol):
            raise not_built(f"{type(built).__name__} is not a datagram protocol")
        return _Port(built)

    def _datagrams(self) -> st.SearchStrategy[bytes]:
        told = [st.sampled_from([b"", *self.examples, bytes(_LARGEST)])]
        if self.inputs is not None:
            told.append(self.inputs)
        return st.one_of(*told, st.binary(max_size=100))

    def _received(self) -> st.SearchStrategy[list[tuple[bytes, DatagramPeer]]]:
        """Return datagrams of several peers, some of them repeated, in any order."""
        each = st.tuples(self._datagrams(), st.sampled_from(_PEERS))

        @st.composite
        def some(draw: st.DrawFn) -> list[tuple[bytes, DatagramPeer]]:
            first = draw(st.lists(each, max_size=4))
            again = draw(st.lists(st.integers(0, 3), max_size=2))
            return first + [first[place % len(first)] for place in again if first]

        return some()

    def _take(self, data: bytes) -> None:
        """Deliver a whole datagram with a sender: if that fails already, another rule is broken."""

        def receive(_watched: Watched) -> None:
            self._listen().receive(data, _PEERS[0])

        running(rules.DATAGRAMS, f"{shown(data)} from {_PEERS[0]!r}", receive)

    def test_no_datagram_raises_an_exception(self) -> None:
        """Datagrams may be empty, largest, repeated or out of order, and come in batches or not."""

        def run(datagrams: list[tuple[bytes, DatagramPeer]]) -> None:
            label = (
                ", ".join(f"{shown(data)} from {peer!r}" for data, peer in datagrams) or "nothing"
            )

            def receive(_watched: Watched) -> None:
                port = self._listen()
                for data, peer in datagrams:
                    port.receive(data, peer)
                port.receive_together(datagrams)
                port.stop()

            running(rules.DATAGRAMS, label, receive)

        check(self._received(), run)

    def test_a_truncated_datagram_raises_no_exception(self) -> None:
        """The beginning of a datagram that is longer than the service's buffer is delivered."""

        def run(data: bytes) -> None:
            def receive(_watched: Watched) -> None:
                port = self._listen()
                port.receive_truncated(data, len(data) + 1, _PEERS[0])
                port.stop()

            self._take(data)
            running(rules.TRUNCATED, f"the first {len(data)} bytes: {shown(data)}", receive)

        check(self._datagrams(), run)

    def test_an_unknown_peer_raises_no_exception(self) -> None:
        """An unbound Unix socket has no address to answer to."""

        def run(data: bytes) -> None:
            def receive(_watched: Watched) -> None:
                port = self._listen()
                port.receive(data, None)
                port.receive_together([(data, None)])
                port.receive_truncated(data, len(data) + 1, None)
                port.stop()

            self._take(data)
            running(rules.UNKNOWN_PEER, f"{shown(data)} from nobody", receive)

        check(self._datagrams(), run)

    def test_a_listener_that_stops_leaves_nothing_behind(self) -> None:
        """A process may stop a service and keep running."""

        def run(data: bytes) -> None:
            def stop(watched: Watched) -> None:
                port = self._listen()
                port.receive(data, _PEERS[0])
                port.stop()
                protocol = reference_to(port.protocol)
                del port
                watched.raise_left(protocol, rules.STOPPED, shown(data))

            self._take(data)
            running(rules.STOPPED, shown(data), stop)

        check(self._datagrams(), run, examples=20)

    def test_nothing_holds_up_the_event_loop(self) -> None:
        """While one datagram is processed, all others wait."""

        def longest(data: bytes) -> float:
            port = self._listen()
            with contextlib.suppress(Exception):  # another rule reports it
                port.receive(data, _PEERS[0])
                port.stop()
            return port.longest

        datagrams = self._datagrams()
        check_blocking(self.examples, datagrams, longest, self.max_blocking, rules.DATAGRAMS)
