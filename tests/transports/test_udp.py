from __future__ import annotations

import socket
import sys

import pytest
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import CannotListenError, InvalidAddressError
from twisted.internet.interfaces import IListeningPort
from zope.interface.verify import verifyObject

from sockservices.transports.receive_buffer import size_of
from sockservices.transports.udp import UdpPort
from tests.fakes import ManualReactor, logged
from tests.transports.datagrams import (
    Answering,
    Recorder,
    Udp,
    close,
    drain,
    held_back,
    listening,
)


def test_the_largest_udp_datagram_arrives_whole() -> None:
    recorder = Recorder()
    with Udp(recorder) as udp:
        udp.say(b"." * 65507)
        udp.port.doRead()
    assert recorder.datagrams == [b"." * 65507]
    assert udp.port.datagrams_truncated == 0


@pytest.mark.parametrize("host", ["localhost", "example.com", "", "::1", "fe80::1%lo", "256.1.1.1"])
def test_an_ipv4_port_writes_to_ipv4_addresses_only(host: str) -> None:
    with Udp(Recorder()) as udp:
        with pytest.raises(InvalidAddressError):
            udp.port.write(b"!", (host, udp.name[1]))
        assert udp.port.datagrams_dropped == 0


def test_an_ipv6_port_takes_and_writes_to_ipv6_addresses_only() -> None:
    recorder = Recorder()
    try:
        udp = Udp(recorder, "::1", socket.AF_INET6)
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    with udp:
        assert udp.address == IPv6Address("UDP", "::1", udp.address.port)
        udp.say(b"six")
        udp.port.doRead()
        assert recorder.received == [(b"six", ("::1", udp.name[1]))]
        udp.port.write(b"back", udp.name)
        assert drain(udp.peer) == [b"back"]
        for host in ("127.0.0.1", "<broadcast>", "localhost"):
            with pytest.raises(InvalidAddressError):
                udp.port.write(b"!", (host, udp.name[1]))


def test_a_connected_port_hears_and_writes_to_its_peer_only() -> None:
    recorder = Recorder()
    with Udp(recorder) as udp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        udp.port.connect(*udp.name)
        udp.port.write(b"without an address")
        udp.port.write(b"with it", udp.name)
        assert drain(udp.peer) == [b"without an address", b"with it"]
        other.sendto(b"other", ("127.0.0.1", udp.address.port))
        udp.say(b"mine")
        udp.port.doRead()
        assert recorder.datagrams == [b"mine"]


def test_a_port_connects_to_an_address_and_once() -> None:
    with Udp(Recorder()) as udp:
        with pytest.raises(InvalidAddressError):
            udp.port.connect("localhost", 7)
        udp.port.connect(*udp.name)
        with pytest.raises(RuntimeError):
            udp.port.connect(*udp.name)


def test_a_connected_port_is_told_that_its_peer_is_gone() -> None:
    recorder = Recorder()
    with Udp(recorder) as udp:
        udp.port.connect(*udp.name)
        udp.peer.close()
        udp.port.write(b"!")
        udp.port.doRead()
        assert recorder.refused == 1
        assert udp.port in udp.reactor.readers


def test_a_port_has_the_port_that_the_system_chose() -> None:
    with Udp(Recorder()) as udp:
        assert isinstance(udp.address, IPv4Address)
        assert (udp.address.type, udp.address.host) == ("UDP", "127.0.0.1")
        assert udp.address.port > 0
        verifyObject(IListeningPort, udp.port)


@pytest.mark.parametrize("interface", ["127.0.0.1", "0.0.0.0", "::1", "::"])
def test_no_listener_of_this_process_is_answered(interface: str) -> None:
    loopback = "::1" if ":" in interface else "127.0.0.1"
    with Udp(Recorder(), "127.0.0.1") as other:
        answering = Answering()
        port = UdpPort(0, answering, interface, ManualReactor())
        with listening(port, port.reactor):
            own = port.getHost().port
            port.answer(b"x", (loopback, own))
            port.answer(b"x", ("127.0.0.1", other.address.port))
            assert port.datagrams_unanswered == 2
            # There nobody listens: it may be a client's.
            port.answer(b"x", (loopback, own % 60000 + 1025))
            assert port.datagrams_unanswered == 2


def test_a_socket_that_is_bound_already_is_taken_as_it_is() -> None:
    recorder, reactor = Recorder(), ManualReactor()
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as owned,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer,
    ):
        owned.bind(("127.0.0.1", 0))
        owned.setblocking(False)
        port = UdpPort.inheriting(owned.dup(), recorder, reactor)
        with listening(port, reactor):
            assert port.getHost() == IPv4Address("UDP", *owned.getsockname())
            peer.sendto(b"!", owned.getsockname())
            port.doRead()
            assert recorder.received == [(b"!", ("127.0.0.1", peer.getsockname()[1]))]
        peer.sendto(b"later", owned.getsockname())
        assert drain(owned) == [b"later"]  # it is its owner's, and open


def test_a_port_that_closes_is_no_listener_of_this_process_any_more() -> None:
    with Udp(Recorder()) as other:
        with Udp(Recorder()) as closing:
            where = ("127.0.0.1", closing.address.port)
            other.port.answer(b"x", where)
            assert held_back(other.port) == (1, 0)
        other.port.answer(b"x", where)
        assert held_back(other.port) == (1, 0)


# Twisted leaves a socket that cannot be bound to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_port_that_is_taken_is_told_and_leaves_nothing_behind() -> None:
    with Udp(Recorder()) as udp:
        recorder, reactor = Recorder(), ManualReactor()
        second = UdpPort(udp.address.port, recorder, "127.0.0.1", reactor)
        with pytest.raises(CannotListenError):
            second.startListening()
        assert reactor.readers == set()
        assert recorder.transport is None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_what_the_kernel_drops_is_logged_soon_and_at_the_end() -> None:
    with Udp(Recorder()) as udp, logged() as events:
        udp.port.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)

        def overflow() -> int:
            before = udp.port.dropped_by_kernel
            for _ in range(100):
                udp.say(bytes(1000))
            udp.port.doRead()
            return udp.port.dropped_by_kernel - before

        first = overflow()
        udp.reactor.advance(1)
        told = [(event["lost"], event["listener"], event["granted"]) for event in events]
        assert told == [(first, f"udp:127.0.0.1:{udp.address.port}", 4096)]
        second = overflow()
        close(udp.port, udp.reactor)
        assert [event["lost"] for event in events if "lost" in event] == [first, second]
        assert udp.reactor.getDelayedCalls() == []


@pytest.mark.parametrize("is_inherited", [False, True])
def test_a_receive_buffer_is_asked_for(is_inherited: bool) -> None:
    reactor = ManualReactor()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as owned:
        owned.bind(("127.0.0.1", 0))
        wanted = size_of(owned) + 4096
        if is_inherited:
            port = UdpPort.inheriting(owned.dup(), Recorder(), reactor, wanted)
        else:
            port = UdpPort(0, Recorder(), "127.0.0.1", reactor, wanted)
        with logged() as events, listening(port, reactor):
            assert size_of(port.socket) == wanted
            assert not [event for event in events if "wanted" in event]


@pytest.mark.parametrize("interface", ["fe80::1:2:3%lo", "fe80::1%no-such-one"])
def test_a_link_local_address_that_is_not_here_cannot_be_bound(interface: str) -> None:
    port = UdpPort(0, Recorder(), interface, ManualReactor())
    with pytest.raises(CannotListenError) as caught:
        port.startListening()
    assert caught.value.interface == interface
    assert not hasattr(port, "socket") or port.socket.fileno() < 0


def test_a_port_is_connected_once_to_an_address() -> None:
    with Udp(Recorder()) as udp:
        for host in ("localhost", "::1", "fe80::1%lo"):
            with pytest.raises(InvalidAddressError):
                udp.port.connect(host, 9)
        udp.port.connect("127.0.0.1", udp.name[1])
        with pytest.raises(RuntimeError, match="already connected"):
            udp.port.connect("127.0.0.1", udp.name[1])
        udp.port.write(b"hello")
        assert drain(udp.peer) == [b"hello"]
