from __future__ import annotations

import socket

import pytest

from sockservices.errors import DescriptionError
from sockservices.listening.expansion import expanded


@pytest.mark.parametrize(
    "descriptions",
    [
        [],
        ["tcp:7"],
        ["tcp6:7"],
        ["tcp:7", "tcp6:8"],
        ["tcp:0", "tcp6:0"],
        ["tcp:7", r"udp:7:interface=\:\:"],
        ["tcp:7", r"tcp:7:interface=\:\:1"],
        ["tcp:7", "tcp6:7:ipv6only=no"],
        ["tcp6:7:ipv6only=yes", "tcp:7"],
        ["tcp6:7", "tcp6:7"],
        ["unix:/run/x", "haproxy:unix:/run/y", "other:7"],
        ["tcp:x", "tcp6:x"],
    ],
)
def test_what_is_one_socket_stays_as_it_is(descriptions: list[str]) -> None:
    assert expanded(descriptions) == descriptions


@pytest.mark.parametrize(
    "ipv4",
    [
        "tcp:7",
        "TCP:port=7:interface=127.0.0.1",
        "haproxy:tcp:7",
        "ssl:7:privateKey=x",
        r"tls:/:7:5:1",
    ],
)
@pytest.mark.parametrize(
    "ipv6",
    ["tcp6:7", r"tcp:7:interface=0\:\:0", "haproxy:tcp6:7", r"ssl:7:interface=\:\:", "tls:/:7"],
)
def test_beside_ipv4_a_socket_on_all_ipv6_addresses_is_for_ipv6_only(ipv4: str, ipv6: str) -> None:
    assert expanded([ipv4, ipv6]) == [ipv4, f"{ipv6}:ipv6only=yes"]
    assert expanded([ipv6, ipv4]) == [f"{ipv6}:ipv6only=yes", ipv4]
    assert expanded(expanded([ipv6, ipv4])) == [f"{ipv6}:ipv6only=yes", ipv4]


def test_datagrams_have_ports_of_their_own() -> None:
    assert expanded(["udp:7", "tcp6:7", r"udp:7:\:\:"]) == [
        *("udp:7", "tcp6:7", r"udp:7:\:\::ipv6only=yes"),
    ]


def _loopback_addresses() -> list[str]:
    found = socket.getaddrinfo("localhost", None, type=socket.SOCK_DGRAM)
    hosts = [str(each[4][0]) for each in found]
    return [f"[{host}]" if ":" in host else host for host in hosts]


def test_a_name_stands_for_its_addresses() -> None:
    loopback = _loopback_addresses()
    assert "127.0.0.1" in loopback
    assert expanded(["tcp:7:localhost:5", "unix:x", "UDP:7:interface=localhost"]) == [
        *(f"tcp:7:interface={each}:backlog=5" for each in loopback),
        "unix:x",
        *(f"udp:7:interface={each}" for each in loopback),
    ]


@pytest.mark.parametrize(
    ("description", "reason"),
    [
        ("tcp:7\\", "ends with a backslash"),
        ("tcp:interface=localhost", "has no port"),
        ("tcp:7:localhost:interface=x", "interface is given twice"),
        ("tcp:7:interface=no.such.name.invalid", "'no.such.name.invalid' is not an IPv4 or IPv6"),
        (f"udp:7:{'x' * 64}", "nor a host name that can be found: it is not a valid host name"),
        ("tcp:7:interface=127.1", "'127.1' is not .*: it is not a valid host name"),
    ],
)
def test_what_cannot_be_expanded_is_one_line(description: str, reason: str) -> None:
    with pytest.raises(DescriptionError, match=reason) as caught:
        expanded([description])
    assert len(str(caught.value).splitlines()) == 1
