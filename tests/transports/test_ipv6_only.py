from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet import reactor as _reactor
from twisted.internet.defer import maybeDeferred
from twisted.internet.protocol import DatagramProtocol, Factory

from sockservices.transports import with_streams
from sockservices.transports.udp import UdpPort
from tests.fakes import with_reactor

reactor: Any = _reactor


def _streams(number: int, interface: str, ipv6only: bool | None, *, eager: bool) -> Any:
    streams = with_streams(reactor, eager=eager)
    return streams.listenTCP(number, Factory(), 5, interface, ipv6only)


def _eager(number: int, interface: str, ipv6only: bool | None) -> Any:
    return _streams(number, interface, ipv6only, eager=True)


def _stock(number: int, interface: str, ipv6only: bool | None) -> Any:
    return _streams(number, interface, ipv6only, eager=False)


def _datagrams(number: int, interface: str, ipv6only: bool | None) -> Any:
    port = UdpPort(number, DatagramProtocol(), interface, reactor, None, ipv6only)
    port.startListening()
    return port


@pytest.mark.parametrize("listen", [_eager, _stock, _datagrams])
@with_reactor
async def test_ipv4_can_have_the_same_port(listen: Callable[..., Any]) -> None:
    ipv6 = listen(0, "::", True)
    ipv4 = listen(ipv6.getHost().port, "", None)
    for port in (ipv6, ipv4):
        await maybeDeferred(port.stopListening)


@pytest.mark.parametrize("listen", [_eager, _stock, _datagrams])
@pytest.mark.parametrize("chosen", [True, False, None])
@with_reactor
async def test_the_socket_is_as_chosen(listen: Callable[..., Any], chosen: bool | None) -> None:
    with socket.socket(socket.AF_INET6) as untouched:
        default = untouched.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    port = listen(0, "::", chosen)
    found = port.socket.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    assert found == (default if chosen is None else chosen)
    await maybeDeferred(port.stopListening)
