from __future__ import annotations

import socket
from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import formatEvent

from sockservices.connections.limits import Limits
from sockservices.connections.rates import Rate
from sockservices.host import host
from sockservices.host.host import SocketService
from sockservices.listening import DatagramListener
from sockservices.services.echo import EchoFactory
from tests.fakes import logged, until, with_reactor
from tests.host.broken_part import Broken


@with_reactor
async def test_datagrams_are_limited_at_once_too() -> None:
    service = SocketService(EchoFactory(), ["udp:0:interface=127.0.0.1"])
    service.startService()
    [address] = await service.when_listening()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(30)
        service.change(Limits(deny=["127.0.0.0/8"]))  # type: ignore[list-item]
        client.sendto(b"1", ("127.0.0.1", address.port))
        await until(lambda: service.ledger.totals.refused == {"denied": 1})
        service.change(Limits())
        client.sendto(b"2", ("127.0.0.1", address.port))
        await until(lambda: service.ledger.totals.datagrams == 1)
        assert client.recv(9) == b"2"
    await service.stopService()


@with_reactor
async def test_a_part_that_fails_on_a_datagram_does_not_end_the_listener() -> None:
    broken = Broken(word="ask_datagram")
    service = SocketService(EchoFactory(), ["udp:0:interface=127.0.0.1"], broken)
    service.startService()
    [address] = await service.when_listening()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client, logged() as events:
        client.settimeout(30)
        client.sendto(b"1", ("127.0.0.1", address.port))
        await until(lambda: any("log_failure" in each for each in events))
        service.change(Broken())
        client.sendto(b"2", ("127.0.0.1", address.port))
        await until(lambda: service.ledger.totals.datagrams == 1)
        assert client.recv(9) == b"2"
    assert [formatEvent(each) for each in events if "log_failure" in each] == [
        "a part failed on a datagram"
    ]
    await service.stopService()


@with_reactor
async def test_a_datagram_listener_that_cannot_be_limited_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Foreign:
        closed = False

        def getHost(self) -> Any:
            return IPv4Address("UDP", "127.0.0.1", 1)

        def stopListening(self) -> None:
            self.closed = True

    port = Foreign()

    class Endpoint:
        def listen(self, _protocol: Any) -> Any:
            return port

    monkeypatch.setattr(
        host, "listener", lambda *_args, **_named: DatagramListener("foreign:1", Endpoint())
    )
    said: list[str] = []
    for limits in (Limits(), Limits(rate=Rate(1, 1))):
        service = SocketService(
            None, ["foreign:1"], limits, datagram=DatagramProtocol, on_failure=said.append
        )
        service.startService()
        assert bool(said) == (limits.rate is not None)
        await service.stopService()
        assert port.closed
    assert said == [
        "DatagramProtocol: cannot listen on foreign:1: "
        "the datagrams of such a listener cannot be limited"
    ]
