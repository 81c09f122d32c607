from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet import reactor as _reactor
from twisted.internet.defer import maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import DatagramProtocol, Factory

from sockservices.transports import with_streams
from sockservices.transports.binding import Binding, device_name
from sockservices.transports.udp import UdpPort
from tests.fakes import with_reactor

reactor: Any = _reactor
NOWHERE = ("192.0.2.77", "2001:db8::77")  # for documentation: RFC 5737 and RFC 3849


def _streams(interface: str, binding: Binding, *, eager: bool) -> Any:
    streams = with_streams(reactor, eager=eager)
    return streams.listenTCP(0, Factory(), 5, interface, None, binding)


def _eager(interface: str, binding: Binding) -> Any:
    return _streams(interface, binding, eager=True)


def _stock(interface: str, binding: Binding) -> Any:
    return _streams(interface, binding, eager=False)


def _datagrams(interface: str, binding: Binding) -> Any:
    port = UdpPort(0, DatagramProtocol(), interface, reactor, binding=binding)
    port.startListening()
    return port


each_kind = pytest.mark.parametrize("listen", [_eager, _stock, _datagrams])


@each_kind
@pytest.mark.parametrize("interface", NOWHERE)
@with_reactor
async def test_it_listens_on_an_address_that_is_not_there_if_asked(
    listen: Callable[..., Any], interface: str
) -> None:
    port = listen(interface, Binding(freebind=True))
    assert port.getHost().host == interface
    await maybeDeferred(port.stopListening)


@pytest.mark.parametrize("listen", [_eager, _stock])
@pytest.mark.parametrize("interface", NOWHERE)
def test_it_does_not_if_not(listen: Callable[..., Any], interface: str) -> None:
    with pytest.raises(CannotListenError) as refused:
        listen(interface, Binding())
    assert refused.value.socketError.errno == errno.EADDRNOTAVAIL


@each_kind
@with_reactor
async def test_it_is_bound_to_its_device(listen: Callable[..., Any]) -> None:
    port = listen("127.0.0.1", Binding(device="lo"))
    found = port.socket.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16)
    assert found.rstrip(b"\0") == b"lo"
    await maybeDeferred(port.stopListening)


@each_kind
def test_there_has_to_be_such_a_device(listen: Callable[..., Any]) -> None:
    with pytest.raises(CannotListenError) as refused:
        listen("127.0.0.1", Binding(device="nosuch0"))
    assert refused.value.socketError.errno == errno.ENODEV


@pytest.mark.parametrize("name", ["", "a" * 16, "ä" * 8])
def test_what_cannot_be_a_name_of_a_device_is_said(name: str) -> None:
    with pytest.raises(ValueError, match="is not the name of a network device, such as eth0"):
        device_name(name)


def test_the_longest_name_is_one() -> None:
    assert device_name("a" * 15) == "a" * 15
