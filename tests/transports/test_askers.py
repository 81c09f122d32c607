from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from twisted.internet.error import MessageLengthError

from sockservices.transports import askers
from sockservices.transports.udp import UdpPort
from tests.fakes import ManualReactor
from tests.transports.datagrams import Recorder, drain, listening

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux is asked")

ASKED = ("127.0.0.2", "127.0.0.3")


class Everywhere:
    """A port that listens on all addresses, of IPv4 or of both families."""

    def __init__(self, port: UdpPort, recorder: Recorder) -> None:
        self.port = port
        self.recorder = recorder
        self.number = port.getHost().port

    def asked(self, asking: socket.socket, host: str, data: bytes = b"?") -> Any:
        """Return the peer that the port is given for a datagram sent to this address."""
        asking.sendto(data, (host, self.number))
        self.port.doRead()
        return self.recorder.received[-1][1]


@contextmanager
def listening_everywhere(
    interface: str = "", then: Callable[[Recorder, bytes], None] | None = None
) -> Iterator[Everywhere]:
    recorder, reactor = Recorder(then), ManualReactor()
    port = UdpPort(0, recorder, interface, reactor)
    with listening(port, reactor):
        yield Everywhere(port, recorder)


@pytest.fixture(params=["", "::"])
def everywhere(request: pytest.FixtureRequest) -> Iterator[Everywhere]:
    with listening_everywhere(request.param) as made:
        yield made


@contextmanager
def client() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.setblocking(False)
        made.bind(("127.0.0.1", 0))
        yield made


@contextmanager
def bound_everywhere() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.bind(("0.0.0.0", 0))
        made.setblocking(False)
        yield made


def sources(receiver: socket.socket) -> list[tuple[bytes, str]]:
    """Return what was received, with the address that it came from."""
    received: list[tuple[bytes, str]] = []
    while True:
        try:
            data, (host, _port) = receiver.recvfrom(100)
        except BlockingIOError:
            return received
        received.append((data, host))


def test_an_answer_comes_from_the_address_that_was_asked(everywhere: Everywhere) -> None:
    with client() as asking:
        for host in ASKED:
            peer = everywhere.asked(asking, host)
            everywhere.port.write(b"written", peer)
            everywhere.port.answer(b"answered", peer)
            assert sources(asking) == [(b"written", host), (b"answered", host)]


def test_the_peer_is_a_host_and_port_as_ever(everywhere: Everywhere) -> None:
    with client() as asking:
        host, port = peer = everywhere.asked(asking, ASKED[0])
        assert host.removeprefix("::ffff:") == "127.0.0.1"
        assert port == asking.getsockname()[1]
        assert (peer, hash(peer), repr(peer)) == (
            (host, port),
            hash((host, port)),
            repr((host, port)),
        )


def test_an_answer_made_later_comes_from_the_address_of_its_question(
    everywhere: Everywhere,
) -> None:
    with client() as asking:
        first, second = (everywhere.asked(asking, host) for host in ASKED)
        everywhere.port.write(b"1", first)
        everywhere.port.write(b"2", second)
        assert sources(asking) == [(b"1", ASKED[0]), (b"2", ASKED[1])]


def test_many_protocols_write_to_a_new_tuple(everywhere: Everywhere) -> None:
    with client() as asking:
        host, port = everywhere.asked(asking, ASKED[0])
        everywhere.port.write(b"!", (host, port))
        assert sources(asking) == [(b"!", ASKED[0])]
        everywhere.asked(asking, ASKED[1])
        everywhere.port.write(b"!", (host, port))
        assert sources(asking) == [(b"!", ASKED[1])]


def test_only_the_latest_askers_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(askers, "MOST_KNOWN", 2)
    with listening_everywhere() as everywhere, client() as old, client() as new:
        peers = {each: tuple(everywhere.asked(each, ASKED[0])) for each in (old, new)}
        everywhere.asked(old, ASKED[0])  # so that the other is unheard of for longer
        with client() as third:
            everywhere.asked(third, ASKED[0])
        for each, peer in peers.items():
            everywhere.port.write(b"!", peer)
            expected = ASKED[0] if each is old else "127.0.0.1"  # as the kernel chooses
            assert sources(each) == [(b"!", expected)]


def test_what_waits_is_sent_from_the_address_that_its_question_asked() -> None:
    with listening_everywhere() as everywhere, client() as asking:
        first, second = (everywhere.asked(asking, host) for host in ASKED)
        real = everywhere.port.socket
        full: Any = _Full(real)
        everywhere.port.socket = full
        everywhere.port._send_to = None
        everywhere.port.write(b"1", first)
        everywhere.port.write(b"2", second)
        assert (full.refused, drain(asking)) == (1, [])
        everywhere.port.socket = real
        everywhere.port.reactor.advance(1)
        assert sources(asking) == [(b"1", ASKED[0]), (b"2", ASKED[1])]


class _Full:
    """A socket whose buffer is full, as that of a slow network interface is, but not loopback's."""

    def __init__(self, real: socket.socket) -> None:
        self._real = real
        self.refused = 0

    def sendmsg(self, *_args: Any) -> int:
        self.refused += 1
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def test_if_nothing_can_be_sent_from_there_the_kernel_chooses(everywhere: Everywhere) -> None:
    with client() as asking:
        peer = everywhere.asked(asking, ASKED[0])
        [(level, kind, data)] = peer.source
        address = socket.inet_aton(ASKED[0])
        for no_source in ("192.0.2.1", "224.0.0.1", "255.255.255.255"):
            peer.source = [(level, kind, data.replace(address, socket.inet_aton(no_source)))]
            everywhere.port.write(b"!", peer)
            assert sources(asking) == [(b"!", "127.0.0.1")]
        assert everywhere.port.datagrams_dropped == 0


def test_who_asked_by_broadcast_is_answered_from_an_address(everywhere: Everywhere) -> None:
    with client() as asking:
        asking.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        everywhere.port.write(b"!", everywhere.asked(asking, "127.255.255.255"))
        assert sources(asking) == [(b"!", "127.0.0.1")]
        assert everywhere.port.datagrams_dropped == 0


def test_other_failures_are_told(everywhere: Everywhere) -> None:
    with client() as asking:
        peer = everywhere.asked(asking, ASKED[0])
        with pytest.raises(MessageLengthError):
            everywhere.port.write(bytes(70000), peer)


def test_a_port_with_one_address_asks_nothing() -> None:
    with listening_everywhere(ASKED[0]) as one, client() as asking:
        peer = one.asked(asking, ASKED[0])
        assert type(peer) is tuple
        one.port.write(b"!", peer)
        assert sources(asking) == [(b"!", ASKED[0])]


def test_an_inherited_socket_answers_so_too() -> None:
    recorder, reactor = Recorder(), ManualReactor()
    with bound_everywhere() as owned, client() as asking:
        port = UdpPort.inheriting(owned.dup(), recorder, reactor)
        with listening(port, reactor):
            peer = Everywhere(port, recorder).asked(asking, ASKED[1])
            port.write(b"!", peer)
            assert sources(asking) == [(b"!", ASKED[1])]


def test_what_arrived_before_the_kernel_was_asked_is_answered() -> None:
    recorder, reactor = Recorder(), ManualReactor()
    with bound_everywhere() as owned, client() as asking:
        asking.sendto(b"early", (ASKED[0], owned.getsockname()[1]))
        port = UdpPort.inheriting(owned.dup(), recorder, reactor)
        with listening(port, reactor):
            port.doRead()
            port.write(b"!", recorder.received[0][1])
            assert drain(asking) == [b"!"]


_SO_TIMESTAMP = 29  # asm-generic/socket.h, as systemd sets it for Timestamping=
_IP_RECVTTL = 12  # linux/in.h


@pytest.mark.parametrize(
    "option",
    [
        (socket.SOL_SOCKET, _SO_TIMESTAMP),
        (socket.IPPROTO_IP, _IP_RECVTTL),
        (socket.IPPROTO_IP, socket.IP_RECVTOS),
    ],
)
def test_what_else_the_kernel_tells_changes_nothing(option: tuple[int, int]) -> None:
    recorder, reactor = Recorder(), ManualReactor()
    with bound_everywhere() as owned, client() as asking:
        owned.setsockopt(*option, 1)
        port = UdpPort.inheriting(owned.dup(), recorder, reactor)
        with listening(port, reactor):
            for host in (*ASKED, *ASKED):
                peer = Everywhere(port, recorder).asked(asking, host)
                port.write(b"written", peer)
                port.answer(b"answered", peer)
                assert sources(asking) == [(b"written", host), (b"answered", host)]
        assert port._askers is not None
        assert len(port._askers._latest) == 1  # of one peer


def test_a_long_datagram_is_truncated_and_counted_as_ever(everywhere: Everywhere) -> None:
    everywhere.port._buffer = memoryview(bytearray(4))
    with client() as asking:
        everywhere.asked(asking, ASKED[0], b"too long")
        assert everywhere.recorder.datagrams == [b"too "]
        assert everywhere.port.datagrams_truncated == 1
