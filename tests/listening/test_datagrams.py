from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import DatagramProtocol
from zope.interface.verify import verifyObject

from sockservices.errors import DescriptionError
from sockservices.listening import (
    DatagramListener,
    IDatagramServerEndpoint,
    Listening,
    datagrams,
    listener,
)
from sockservices.listening.datagrams import UdpServerEndpoint, UnixDatagramServerEndpoint
from sockservices.transports import Access
from sockservices.transports.multicast import Group
from tests.fakes import ManualReactor, result_of


class Quiet(DatagramProtocol):
    noisy = False
    transport: Any


@pytest.mark.parametrize(
    ("description", "port", "interface"),
    [
        ("udp:7", 7, ""),
        ("UDP:port=7", 7, ""),
        ("udp:0:127.0.0.1", 0, "127.0.0.1"),
        (r"udp:7:interface=\:\:1", 7, "::1"),
    ],
)
def test_udp(description: str, port: int, interface: str) -> None:
    reactor = ManualReactor()
    found = listener(reactor, description, Listening())
    assert found == DatagramListener(description, UdpServerEndpoint(reactor, port, interface))
    verifyObject(IDatagramServerEndpoint, found.endpoint)


@pytest.mark.parametrize(
    ("description", "address", "mode"),
    [
        ("unixgram:/run/x", b"/run/x", 0o600),
        ("unixgram:/run/x:660", b"/run/x", 0o660),
        ("unixgram:address=/run/x:mode=0", b"/run/x", 0),
        ("unixgram:abstract=name", b"\0name", 0o600),
        (r"unixgram:/run/a\:b", b"/run/a:b", 0o600),
        (os.fsdecode(b"unixgram:/run/\xff"), b"/run/\xff", 0o600),
        (os.fsdecode(b"unixgram:abstract=\xff"), b"\0\xff", 0o600),
    ],
)
def test_unix_datagrams(description: str, address: bytes, mode: int) -> None:
    reactor = ManualReactor()
    found = listener(reactor, description, Listening())
    assert found == DatagramListener(
        description,
        UnixDatagramServerEndpoint(reactor, address, Access(mode)),
        makes_file=not address.startswith(b"\0"),
    )
    verifyObject(IDatagramServerEndpoint, found.endpoint)


@pytest.mark.parametrize(
    ("description", "reason"),
    [
        ("udp:", "port: '' is not a whole number"),
        ("udp:65536", "port: 65536 is not"),
        ("udp:7:interface=localhost", "interface: 'localhost' is not an IPv4 or IPv6 address"),
        ("udp:7:backlog=5", "'backlog' is unknown: udp takes port, interface"),
        ("udp:interface=127.0.0.1", "has no port"),
        ("udp:7:join=192.0.2.1", "join: '192.0.2.1' is not a multicast group, such as"),
        ("udp:7:join=224.0.0.251,", "join: '' is not a multicast group"),
        (
            r"udp:7:join=ff02\:\:fb%lo",
            r"join: ff02::fb%lo needs a socket that is an IPv6 one: add interface=\\:\\:",
        ),
        (
            r"udp:7:interface=\:\::join=224.0.0.251",
            r"join: 224\.0\.0\.251 needs a socket that is an IPv4 one",
        ),
        (
            "udp:7:interface=127.0.0.1:join=224.0.0.251",
            r"interface: a socket on 127\.0\.0\.1 receives nothing that is sent to 224\.0\.0\.251; "
            r"to choose a network interface, write join=224\.0\.0\.251%eth0",
        ),
        ("unixgram:", "address: is empty"),
        ("unixgram:mode=600", "needs either a path or abstract=NAME"),
        ("unixgram:/run/x:abstract=name", "needs either a path or abstract=NAME"),
        ("unixgram:abstract=name:mode=600", "mode: an abstract name has no file"),
        ("unixgram:/run/" + "x" * 200, "is 205 bytes long; the limit on this system is"),
        ("unixgram:abstract=" + "x" * 200, "200 bytes.*; the limit on this system is"),
        ("unixgram:/run/\0", "contains a null byte"),
    ],
)
def test_the_faulty_part_is_named(description: str, reason: str) -> None:
    with pytest.raises(DescriptionError, match=reason):
        listener(ManualReactor(), description, Listening())


def test_groups_are_joined_in_their_order() -> None:
    found: Any = listener(
        ManualReactor(), "udp:7:join=224.0.0.251%eth0,239.1.2.3", Listening()
    ).endpoint
    assert list(found.join) == [Group("224.0.0.251", "eth0"), Group("239.1.2.3")]
    found = listener(
        ManualReactor(), r"udp:7:join=ff02\:\:fb%2:interface=ff02\:\:fb%2", Listening()
    ).endpoint
    assert list(found.join) == [Group("ff02::fb", "2")]


@pytest.mark.parametrize("prefix", ["udp", "unixgram"])
def test_an_endpoint_listens(prefix: str, tmp_path: Path) -> None:
    reactor = ManualReactor()
    text = "udp:0:interface=127.0.0.1" if prefix == "udp" else f"unixgram:{tmp_path}/socket"
    protocol = Quiet()
    [port] = result_of(listener(reactor, text, Listening()).endpoint.listen(protocol))
    verifyObject(IListeningPort, port)
    assert protocol.transport is port
    assert reactor.readers == {port}
    closed = port.stopListening()
    reactor.advance(0)
    assert result_of(closed) == [None]
    assert reactor.readers == set()
    assert list(tmp_path.iterdir()) == []


def test_an_endpoint_that_cannot_listen_fails_its_deferred(tmp_path: Path) -> None:
    endpoint = listener(
        ManualReactor(), f"unixgram:{tmp_path}/missing/socket", Listening()
    ).endpoint
    with pytest.raises(Exception, match="does not exist"):
        result_of(endpoint.listen(Quiet()))


def test_a_protocol_that_cannot_start_leaves_no_udp_port_taken() -> None:
    ports: list[int] = []

    class Unwilling(Quiet):
        def startProtocol(self) -> None:
            ports.append(self.transport.getHost().port)
            raise RuntimeError("unwilling")

    protocol = Unwilling()
    endpoint = listener(ManualReactor(), "udp:0:interface=127.0.0.1", Listening()).endpoint
    with pytest.raises(RuntimeError, match="unwilling"):
        result_of(endpoint.listen(protocol))
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as again:
            again.bind(("127.0.0.1", ports[0]))
    finally:
        if hasattr(protocol.transport, "socket"):
            protocol.transport.socket.close()


class Parser:
    """As another package would add a type of descriptions."""

    prefix = "Pigeon"

    def parseDatagramServer(self, reactor: object, *args: str, **named: str) -> object:
        if args == ("lame",):
            raise ValueError("it cannot fly")
        if args == ("two",):
            raise TypeError("one too many")
        return (reactor, args, named)


def test_a_type_of_another_package_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datagrams, "getPlugins", lambda _interface: [Parser()])
    reactor = ManualReactor()
    found = listener(reactor, r"pigeon:grey\:ish:name=x", Listening())
    assert found == DatagramListener(
        r"pigeon:grey\:ish:name=x", (reactor, ("grey:ish",), {"name": "x"})
    )


@pytest.mark.parametrize(("which", "reason"), [("lame", "it cannot fly"), ("two", "one too many")])
def test_its_refusal_is_a_description_error(
    monkeypatch: pytest.MonkeyPatch, which: str, reason: str
) -> None:
    monkeypatch.setattr(datagrams, "getPlugins", lambda _interface: [Parser()])
    with pytest.raises(DescriptionError, match=f"^in 'pigeon:{which}': {reason}$"):
        listener(ManualReactor(), f"pigeon:{which}", Listening())
