"""To whom a datagram is answered, and to whom not."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, UNIXAddress

from sockservices.answering import AnsweringProtocol, is_local, why_no_answer
from sockservices.printable import DatagramPeer
from sockservices.service import IAnswering


@pytest.mark.parametrize(
    "addr",
    [
        ("127.0.0.1", 40000),
        ("192.0.2.7", 1),
        ("::1", 40000),
        ("2001:db8::1", 65535),
        ("fe80::1%lo", 8),
        ("::ffff:192.0.2.1", 4000),
        "/run/x",
        b"\0name",
    ],
)
def test_one_machine_is_answered(addr: DatagramPeer) -> None:
    assert why_no_answer(addr) is None


@pytest.mark.parametrize(
    ("addr", "reason"),
    [
        (("192.0.2.7", 0), "port 0 is not a valid port"),
        (("192.0.2.7", 7), "port 7 may answer in turn"),
        (("2001:db8::1", 19), "port 19 may answer in turn"),
        (("255.255.255.255", 4000), "the address is not unicast"),
        (("224.0.0.1", 4000), "the address is not unicast"),
        (("240.0.0.1", 4000), "the address is not unicast"),
        (("0.0.0.0", 4000), "the address is not unicast"),
        (("::", 4000), "the address is not unicast"),
        (("ff02::1%lo", 4000), "the address is not unicast"),
        (("::ffff:224.0.0.1", 4000), "the address is not unicast"),
        ("name", "the path is relative, and names another socket here"),
        ("./run/x", "the path is relative, and names another socket here"),
    ],
)
def test_many_or_nobody_or_who_answers_in_turn_is_not(addr: DatagramPeer, reason: str) -> None:
    assert why_no_answer(addr) == reason


@given(
    st.one_of(
        st.tuples(st.ip_addresses().map(str), st.integers(0, 65535)),
        st.text(min_size=1),
        st.binary(min_size=1),
    )
)
def test_there_is_a_word_about_every_address(addr: DatagramPeer) -> None:
    assert why_no_answer(addr) is None or why_no_answer(addr)


def test_what_is_local_can_be_bound_to() -> None:
    assert is_local("127.0.0.1")
    assert is_local("127.8.9.10")
    assert is_local("::1") == socket.has_ipv6
    assert not is_local("192.0.2.1")
    assert not is_local("2001:db8::1")


# On a listener of Twisted's own


class Sent:
    """A datagram transport that remembers."""

    def __init__(self, host: Any) -> None:
        self.all: list[tuple[bytes, object]] = []
        self._host = host

    def write(self, datagram: bytes, addr: object) -> None:
        self.all.append((datagram, addr))

    def getHost(self) -> Any:
        return self._host


def _answered(host: Any, *addrs: Any) -> list[Any]:
    protocol = AnsweringProtocol()
    assert IAnswering.providedBy(protocol)
    protocol.transport = sent = Sent(host)
    for addr in addrs:
        protocol.answer(b"x", addr)
    return [addr for _data, addr in sent.all]


def test_it_is_answered_as_well_but_not_its_own_address() -> None:
    good = [("127.0.0.1", 4001), ("192.0.2.1", 4000)]
    for host in ("0.0.0.0", "127.0.0.1"):
        addresses = [*good, ("127.0.0.1", 4000), ("127.0.0.1", 7), None]
        assert _answered(IPv4Address("UDP", host, 4000), *addresses) == good


def test_of_unix_sockets_its_own_name_is_not_answered() -> None:
    good = ["/run/other", b"\0other"]
    for own in ("/run/x", b"\0x"):
        assert _answered(UNIXAddress(own), *good, own, "x", "", None) == good


def test_a_listener_that_can_do_it_is_left_to() -> None:
    class Doing(Sent):
        def answer(self, datagram: bytes, addr: object) -> None:
            self.all.append((datagram + b"!", addr))

    protocol = AnsweringProtocol()
    protocol.transport = sent = Doing(None)
    protocol.answer(b"x", ("127.0.0.1", 7))
    assert sent.all == [(b"x!", ("127.0.0.1", 7))]
