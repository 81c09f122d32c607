from __future__ import annotations

import socket

import pytest

from sockservices.transports.zones import host_of, interface_index, sockaddr

_LO = socket.if_nametoindex("lo")


@pytest.mark.parametrize("zone", ["lo", str(_LO)])
def test_a_zone_is_a_number_of_its_own(zone: str) -> None:
    assert sockaddr((f"fe80::1%{zone}", 9)) == ("fe80::1", 9, 0, _LO)
    assert interface_index(zone) == _LO


@pytest.mark.parametrize("peer", [("fe80::1", 9), ("127.0.0.1", 9), ("<broadcast>", 9)])
def test_an_address_without_a_zone_stays_as_it_is(peer: tuple[str, int]) -> None:
    assert sockaddr(peer) is peer


def test_an_unknown_zone_is_an_error() -> None:
    with pytest.raises(OSError, match=r"no interface with this name|No such device"):
        sockaddr(("fe80::1%no-such-one", 9))


@pytest.mark.parametrize(
    ("name", "host"),
    [
        (("127.0.0.1", 9), "127.0.0.1"),
        (("::1", 9, 0, 0), "::1"),
        (("fe80::1", 9, 0, _LO), "fe80::1%lo"),
        (("fe80::1", 9, 0, 2**31 - 1), f"fe80::1%{2**31 - 1}"),
    ],
)
def test_the_host_of_a_socket_has_its_zone_by_name(name: tuple[object, ...], host: str) -> None:
    assert host_of(name) == host
