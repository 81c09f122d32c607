from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted  # type: ignore[import-untyped]
from twisted.internet import reactor as _reactor
from twisted.internet.defer import maybeDeferred

from sockservices import HelloFactory
from sockservices.errors import DescriptionError
from sockservices.listening.descriptions import Description
from sockservices.listening.inherited import (
    Inherited,
    InheritedSocket,
    indexes,
    inherited_socket,
    inherited_sockets,
    untaken,
)
from sockservices.listening.streams import InheritedServerEndpoint
from sockservices.transports import with_streams

reactor: Any = _reactor


def _environment(**given: str) -> dict[str, str]:
    return {"LISTEN_PID": str(os.getpid()), **given}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, []),
        (_environment(LISTEN_FDS="0"), []),
        (_environment(LISTEN_FDS="x"), []),
        (_environment(LISTEN_FDS="1"), [(3, "unknown")]),
        (_environment(LISTEN_FDS="2"), [(3, "unknown"), (4, "unknown")]),
        (_environment(LISTEN_FDS="2", LISTEN_FDNAMES="a:b"), [(3, "a"), (4, "b")]),
        (_environment(LISTEN_FDS="2", LISTEN_FDNAMES="a:"), [(3, "a"), (4, "")]),
        (_environment(LISTEN_FDS="2", LISTEN_FDNAMES="a"), [(3, "unknown"), (4, "unknown")]),
        ({"LISTEN_PID": "1", "LISTEN_FDS": "1"}, []),
    ],
)
def test_what_was_passed(environment: dict[str, str], expected: list[tuple[int, str]]) -> None:
    before = dict(environment)
    assert inherited_sockets(environment) == [Inherited(*each) for each in expected]
    assert environment == before


def test_a_number_that_is_absurd_is_bounded() -> None:
    assert len(inherited_sockets(_environment(LISTEN_FDS="9" * 30))) == 1 << 16


def test_a_socket_of_another_family() -> None:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM) as netlink:
        with pytest.raises(DescriptionError, match="address family 16: neither IP nor Unix"):
            _find([Inherited(netlink.fileno(), "x")], "systemd-datagram:index=0")


def test_nothing_was_passed_to_this_process() -> None:
    assert inherited_sockets() == []


@pytest.fixture
def passed(tmp_path: Path) -> Iterator[list[Inherited]]:
    """A listening socket of each family, one that does not listen, datagrams, and a file."""
    kinds: list[tuple[str, int, int, Any, bool]] = [
        ("tcp", socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0), True),
        ("tcp6", socket.AF_INET6, socket.SOCK_STREAM, ("::1", 0), True),
        ("unix", socket.AF_UNIX, socket.SOCK_STREAM, str(tmp_path / "s"), True),
        ("connected", socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0), False),
        ("udp", socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0), False),
        ("twin", socket.AF_UNIX, socket.SOCK_DGRAM, str(tmp_path / "d"), False),
        ("twin", socket.AF_UNIX, socket.SOCK_DGRAM, f"\0sockservices-{os.getpid()}", False),
        ("packets", socket.AF_UNIX, socket.SOCK_SEQPACKET, str(tmp_path / "p"), True),
    ]
    made = []
    for _name, family, kind, address, listens in kinds:
        made.append(socket.socket(family, kind))
        made[-1].bind(address)
        if listens:
            made[-1].listen()
    with open(tmp_path / "file", "w") as file:
        yield [
            *(Inherited(each.fileno(), kind[0]) for each, kind in zip(made, kinds, strict=True)),
            Inherited(file.fileno(), "file"),
        ]
    for each in made:
        each.close()


def _find(passed: list[Inherited], text: str) -> InheritedSocket:
    return inherited_socket(Description.parse(text), lambda: passed)


@pytest.mark.parametrize(
    ("text", "index", "family"),
    [
        ("systemd:index=0", 0, socket.AF_INET),
        ("systemd:INET:0", 0, socket.AF_INET),
        ("systemd:domain=INET6:index=1", 1, socket.AF_INET6),
        ("systemd:name=unix", 2, socket.AF_UNIX),
        ("systemd-datagram:name=udp", 4, socket.AF_INET),
        ("systemd-datagram:index=5", 5, socket.AF_UNIX),
        ("systemd-datagram:index=6", 6, socket.AF_UNIX),
        ("systemd-datagram:name=twin", 5, socket.AF_UNIX),
    ],
)
def test_one_is_found(
    passed: list[Inherited], text: str, index: int, family: socket.AddressFamily
) -> None:
    descriptor = passed[index].descriptor
    os.set_inheritable(descriptor, True)
    found = _find(passed, text)
    assert (found.descriptor, found.family) == (descriptor, family)
    assert not os.get_inheritable(descriptor)
    assert not os.get_blocking(descriptor)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("systemd:domain=INET", "needs either index=NUMBER or name=NAME"),
        ("systemd:index=0:name=tcp", "needs either index=NUMBER or name=NAME"),
        ("systemd:index=-1", "index: -1 is not a whole number, 0 or more"),
        ("systemd:index=9", "index: the sockets that were passed are 0 to 8"),
        ("systemd:name=no", "name: the sockets that were passed are tcp, tcp6, unix"),
        ("systemd:name=twin", "is a datagram socket, not a stream socket; write systemd-datagram:"),
        ("systemd:domain=UNIX:name=tcp", "domain: the socket's is INET"),
        ("systemd:domain=X:name=tcp", "domain: 'X' is not one of INET, INET6, UNIX"),
        ("systemd:name=udp", "is a datagram socket, not a stream socket; write systemd-datagram:"),
        ("systemd-datagram:name=tcp", "is a stream socket, not a datagram socket; write systemd:"),
        ("systemd:name=packets", "is a packet socket, not a stream socket"),
        ("systemd:name=connected", "does not listen: its unit needs Accept=no"),
        ("systemd:name=file", "is not a socket: Socket operation on non-socket"),
    ],
)
def test_errors(passed: list[Inherited], text: str, reason: str) -> None:
    with pytest.raises(DescriptionError) as caught:
        _find(passed, text)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("systemd:index=1", [1]),
        ("systemd:name=unit", [0, 1, 2]),
        ("systemd:domain=INET6:name=unit", [1]),
        ("systemd-datagram:name=unit", [4]),
        ("systemd-datagram:domain=UNIX:name=unit", [0, 1, 2, 4, 7, 8]),  # none: each is an error
        ("systemd:name=other", [3]),
    ],
)
def test_a_name_means_all_sockets_of_the_right_kind(
    passed: list[Inherited], text: str, found: list[int]
) -> None:
    others = {3: "other", 5: "twin", 6: "twin"}
    unit = [
        Inherited(each.descriptor, others.get(index, "unit")) for index, each in enumerate(passed)
    ]
    assert indexes(Description.parse(text), lambda: unit) == found


def test_what_no_description_means_is_told(passed: list[Inherited]) -> None:
    taken = ["systemd:name=tcp", "tcp:7", "haproxy:systemd:domain=INET6:index=1", "unix:/run/x"]
    taken += ["systemd-datagram:name=twin", "systemd:index=7", "haproxy:tcp:7"]
    assert untaken(taken, lambda: passed) == [
        ("systemd:index=2", "unix"),
        ("systemd:index=3", "connected"),
        ("systemd-datagram:index=4", "udp"),
        ("systemd:index=8", "file"),
    ]
    assert untaken(taken[1:2], list) == []


def test_a_descriptor_that_is_not_there() -> None:
    with pytest.raises(DescriptionError, match="Bad file descriptor"):
        _find([Inherited(1 << 20, "x")], "systemd:index=0")


def test_nothing_passed_is_said() -> None:
    with pytest.raises(DescriptionError, match="no socket was passed to this process"):
        _find([], "systemd:index=0")


@pytest_twisted.ensureDeferred  # type: ignore[untyped-decorator]
async def test_it_can_listen_again(passed: list[Inherited]) -> None:
    found = _find(passed, "systemd:name=tcp")
    endpoint = InheritedServerEndpoint(with_streams(reactor, eager=True), found, backlog=5)
    for _ in range(2):
        port = await endpoint.listen(HelloFactory())
        where: Any = port.getHost()
        assert (where.host, where.port) == found.address
        await maybeDeferred(port.stopListening)


def _shut_down(descriptor: int) -> socket.socket:
    """Shut a socket down as another process does, and return a socket that has its port now."""
    with socket.socket(fileno=os.dup(descriptor)) as same:
        address = same.getsockname()
        with contextlib.suppress(OSError):
            same.shutdown(socket.SHUT_RDWR)
    other = socket.socket()
    other.bind(address)
    return other


@pytest_twisted.ensureDeferred  # type: ignore[untyped-decorator]
async def test_one_that_was_shut_down_listens_again_if_its_port_is_free(
    passed: list[Inherited],
) -> None:
    found = _find(passed, "systemd:name=tcp")
    endpoint = InheritedServerEndpoint(with_streams(reactor, eager=True), found, backlog=5)
    with _shut_down(found.descriptor):
        for _ in range(2):
            with pytest.raises(OSError, match="Address already in use"):
                await endpoint.listen(HelloFactory())
    port = await endpoint.listen(HelloFactory())
    where: Any = port.getHost()
    assert (where.host, where.port) == found.address
    await maybeDeferred(port.stopListening)
