"""What a host does when it is told to suspend, resume, reload, hurry and stop."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor as _reactor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import ensureDeferred
from twisted.internet.endpoints import clientFromString, connectProtocol
from twisted.internet.protocol import DatagramProtocol, Protocol
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.logger import LogEvent, formatEvent

from sockservices.connections.ledger import Closed, Event
from sockservices.connections.limits import Limits
from sockservices.connections.timeouts import Timeouts
from sockservices.connections.tls import TLS
from sockservices.host.host import SocketService
from sockservices.host.stopping import Stopping
from sockservices.services.counter import CounterFactory
from sockservices.services.echo import EchoFactory
from sockservices.services.hello import HelloFactory
from tests.certificates import make_certificate
from tests.fakes import Heard, logged, until, with_reactor

reactor: Any = _reactor
LOOPBACK = "tcp:0:interface=127.0.0.1"
UDP_LOOPBACK = "udp:0:interface=127.0.0.1"
_TURNS = 20  # in which what could come would have come


async def _started(service: SocketService) -> list[Any]:
    service.startService()
    return await service.when_listening()


async def _connect(address: Any) -> Any:
    endpoint = clientFromString(reactor, f"tcp:127.0.0.1:{address.port}")
    return await connectProtocol(endpoint, Heard())


async def _turns() -> None:
    for _ in range(_TURNS):
        await deferLater(reactor, 0)


def _said(events: Iterable[LogEvent], service: str) -> list[str]:
    return [formatEvent(each) for each in events if each["log_namespace"] == service]


@with_reactor
async def test_suspended_it_lets_connections_wait_and_resumed_it_takes_them() -> None:
    service = SocketService(CounterFactory(), listen=[LOOPBACK], name="counter")
    [address] = await _started(service)
    with logged() as events:
        for _ in range(2):
            service.suspend()
            assert service.is_suspended
        client = await _connect(address)
        await _turns()
        assert (client.data, service.ledger.totals.opened) == (b"", 0)
        for _ in range(2):
            service.resume()
            assert not service.is_suspended
        await client.whole
    assert client.data == b"Connection 1!\n"
    assert _said(events, "counter") == ["suspended: 0 live connections", "resumed"]
    await service.stopService()


@with_reactor
async def test_suspended_it_lets_datagrams_wait_and_tells_how_many_connections_live() -> None:
    service = SocketService(EchoFactory(), listen=[LOOPBACK, UDP_LOOPBACK], name="echo")
    streams, datagrams = await _started(service)
    client = await _connect(streams)
    await until(lambda: service.ledger.live)
    with logged() as events:
        service.suspend()
    assert _said(events, "echo") == ["suspended: 1 live connections"]
    sender = reactor.listenUDP(0, _Sender(datagrams.port), interface="127.0.0.1")
    await _turns()
    assert service.ledger.totals.datagrams == 0
    client.transport.write(b"what lives goes on")
    await until(lambda: client.data == b"what lives goes on")
    service.resume()
    await until(lambda: service.ledger.totals.datagrams)
    await sender.stopListening()
    await service.stopService()


class _Sender(Protocol):
    """Sends a datagram when it can."""

    noisy = False

    def __init__(self, port: int) -> None:
        self._port = port

    def makeConnection(self, transport: Any) -> None:
        transport.write(b"datagram", ("127.0.0.1", self._port))

    def doStop(self) -> None: ...


@with_reactor
async def test_at_its_limit_it_lets_the_next_one_wait() -> None:
    limits = Limits(max_connections=1, at_limit="wait")
    service = SocketService(EchoFactory(), [LOOPBACK], limits)
    [address] = await _started(service)
    first, second = await _connect(address), await _connect(address)
    for client in (first, second):
        client.transport.write(b"here")
    await until(lambda: first.data)
    await _turns()
    assert (second.data, service.ledger.live) == (b"", 1)
    first.transport.loseConnection()
    await until(lambda: second.data)
    assert service.ledger.totals.refused == {}
    await service.stopService()


@with_reactor
async def test_a_reload_cuts_who_is_not_admitted_any_more(tmp_path: Path) -> None:
    denied = tmp_path / "denied"
    denied.write_text("192.0.2.0/24\n")
    limits = Limits(deny_file=[str(denied)])
    service = SocketService(EchoFactory(), [LOOPBACK], limits, name="echo")
    ended: list[Event] = []
    service.ledger.subscribe(ended.append)
    [address] = await _started(service)
    client = await _connect(address)
    await until(lambda: service.ledger.live)
    with logged() as events:
        service.reload()
        await _turns()
        assert service.ledger.live == 1
        denied.write_text("127.0.0.0/8\n")
        service.reload()
        await client.whole
        denied.write_text("nonsense\n")
        service.reload()
    assert [each.reason for each in ended if isinstance(each, Closed)] == ["denied"]
    first, second, cut, failed = _said(events, "echo")
    assert (first, second) == ("reloaded: networks", "reloaded: networks")
    assert re.fullmatch(rf"closed 127\.0\.0\.1, port \d+ on {LOOPBACK}: denied: .*--deny.*", cut)
    assert failed.startswith(
        f"not reloaded: --deny-file: {denied}, line 1: 'nonsense' is not a network"
    )
    refused = await _connect(address)
    await refused.whole
    assert service.ledger.totals.refused == {"denied": 1}
    await service.stopService()


@with_reactor
async def test_large_files_are_read_again_while_it_serves(tmp_path: Path) -> None:
    denied = tmp_path / "denied"
    denied.write_text("192.0.2.0/24\n")
    limits = Limits(deny_file=[str(denied)])
    service = SocketService(EchoFactory(), [LOOPBACK], limits, name="echo")
    [address] = await _started(service)
    numbers = range(1 << 20)
    lines = (f"10.{each >> 16}.{each >> 8 & 255}.{each & 255}\n" for each in numbers)
    denied.write_text("".join(lines) + "127.0.0.2\n")
    reloaded = service.reload()
    client = await _connect(address)
    client.transport.write(b"hi")
    await until(lambda: client.data)
    assert not reloaded.called
    service.change(Limits(deny_file=[str(denied)], max_connections=7))
    with logged() as events:
        await reloaded
    assert _said(events, "echo") == ["reloaded: networks"]
    assert service.settings[Limits].max_connections == 7  # type: ignore[attr-defined]
    await service.stopService()


# Twisted's own, with a recent pyOpenSSL.
@pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")
@with_reactor
async def test_a_reload_shows_a_new_certificate_on_every_kind_of_listener(tmp_path: Path) -> None:
    make_certificate(tmp_path)
    chain, key = tmp_path / "trusted/cert.pem", tmp_path / "key.pem"
    own = SocketService(
        EchoFactory(), [LOOPBACK], TLS(tls_cert=str(chain), tls_key=str(key)), name="own"
    )
    twisteds = SocketService(
        EchoFactory(),
        listen=[f"ssl:0:interface=127.0.0.1:privateKey={key}:certKey={chain}"],
        name="twisteds",
    )
    for service in (own, twisteds):
        make_certificate(tmp_path, "before")
        await service.reload()
        [address] = await _started(service)
        assert await _certificate_at(address) == chain.read_text()
        make_certificate(tmp_path, "after")
        assert await _certificate_at(address) != chain.read_text()
        with logged() as events:
            await service.reload()
            assert await _certificate_at(address) == chain.read_text()
            key.write_text("nonsense")
            await service.reload()
            assert await _certificate_at(address) == chain.read_text()
        await service.stopService()
        [address] = await _started(service)
        assert await _certificate_at(address) == chain.read_text()
        done, failed = _said(events, service.ledger._service)[:2]
        assert done == "reloaded: certificate"
        assert failed.startswith("not reloaded: ")
        await service.stopService()


async def _certificate_at(address: Any) -> str:
    shown: str = await deferToThread(ssl.get_server_certificate, ("127.0.0.1", address.port))
    return shown


@with_reactor
async def test_a_hurried_stop_waits_for_nobody_and_the_next_one_does() -> None:
    service = SocketService(EchoFactory(), [LOOPBACK, UDP_LOOPBACK], Stopping(graceful_timeout=600))
    for order in ("before", "after"):
        address, _datagrams = await _started(service)
        client = await _connect(address)
        await until(lambda: service.ledger.live)
        if order == "before":
            service.hurry()
            stopped = service.stopService()
        else:
            stopped = service.stopService()
            await _turns()
            assert (stopped.called, service.ledger.live) == (False, 1)
            service.hurry()
        await stopped
        await client.whole
        assert service.ledger.live == 0


@pytest.mark.parametrize(
    ("before", "served"),
    [([], 3), ([SocketService.suspend], 3), ([SocketService.hurry], 0)],
    ids=["nothing", "suspended", "hurried"],
)
@with_reactor
async def test_a_stop_accepts_those_that_wait(before: list[Any], served: int) -> None:
    service = SocketService(HelloFactory(), listen=[LOOPBACK], name="hello")
    [address] = await _started(service)
    clients = [socket.create_connection(("127.0.0.1", address.port), 30) for _ in range(3)]
    for each in before:
        each(service)
    with logged() as events:
        await service.stopService()
    stopped, totals = _said(events, "hello")[-2:]
    assert stopped == f"stopped: {served} connections finished, 0 were reset"
    ended = f"connections {served}; ended: closed {served}"
    assert totals == f"since the start: {ended if served else 'nothing'}"
    for client in clients:
        with client:
            if served:
                assert client.recv(100).startswith(b"Hello")
            else:
                with pytest.raises(ConnectionResetError):
                    client.recv(100)


@with_reactor
async def test_a_stop_answers_datagrams_that_had_come() -> None:
    service = SocketService(EchoFactory(), listen=[UDP_LOOPBACK])
    [address] = await _started(service)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(30)
        for each in (b"1", b"2", b"3"):
            client.sendto(each, ("127.0.0.1", address.port))
        await service.stopService()
        assert [client.recv(10) for _ in range(3)] == [b"1", b"2", b"3"]


@with_reactor
async def test_a_stop_says_the_totals_and_leaves_no_timer() -> None:
    service = SocketService(EchoFactory(), [LOOPBACK], Timeouts(idle_timeout=600), name="echo")
    await _started(service)
    peer = IPv4Address("TCP", "127.0.0.1", 1)
    service.ledger.refuse(LOOPBACK, peer, "rate")
    service.ledger.refuse(LOOPBACK, peer, "denied")
    service.ledger.refuse(LOOPBACK, peer, "rate")
    with logged() as events:
        await service.stopService()
    assert _said(events, "echo") == [
        "stopped: 0 connections finished, 0 were reset",
        "since the start: refused: denied 1, rate 2",
    ]
    left = [str(each) for each in reactor.getDelayedCalls()]
    assert [each for each in left if "Timeouts" in each or "LogLimit" in each] == []


@with_reactor
async def test_the_totals_can_be_asked_for_at_any_time() -> None:
    service = SocketService(EchoFactory(), [LOOPBACK, UDP_LOOPBACK], name="echo")
    [address, _udp] = await _started(service)
    client = await _connect(address)
    await until(lambda: service.ledger.live)
    with logged() as events:
        service.log_totals()
    assert _said(events, "echo") == ["since the start: connections 1"]
    await service.stopService()
    await client.whole


@with_reactor
async def test_whom_the_idle_timeout_closes_is_in_the_last_line() -> None:
    service = SocketService(EchoFactory(), [LOOPBACK], Timeouts(idle_timeout=0.01), name="echo")
    [address] = await _started(service)
    with logged() as events:
        client = await _connect(address)
        await client.whole
        await until(lambda: service.ledger.totals.closed)
        await service.stopService()
    closed, *_stopped, totals = _said(events, "echo")
    assert re.fullmatch(rf"closed 127\.0\.0\.1, port \d+ on {LOOPBACK}: idle-timeout: .*", closed)
    assert totals == "since the start: connections 1; ended: idle-timeout 1"


@with_reactor
async def test_of_two_stops_the_later_one_takes_up_who_is_accepted_late() -> None:
    service = SocketService(EchoFactory(), [LOOPBACK], Stopping(graceful_timeout=600), name="echo")
    [first] = await _started(service)
    client = await _connect(first)
    await until(lambda: service.ledger.live)
    stopped = service.stopService()
    [second] = await _started(service)
    with socket.create_connection(("127.0.0.1", second.port), 30), logged() as events:
        stopped_again = service.stopService()
        await until(lambda: service.ledger.live == 2)
        service.hurry()
        await stopped
        await stopped_again
    assert sorted(each for each in _said(events, "echo") if each.startswith("stopped")) == [
        "stopped: 0 connections finished, 1 was reset",
        "stopped: 0 connections finished, 1 was reset",
    ]
    await client.whole


@with_reactor
async def test_stopped_while_it_is_stopping_it_waits_for_the_same_end() -> None:
    service = SocketService(EchoFactory(), [LOOPBACK], Stopping(graceful_timeout=600))
    [address] = await _started(service)
    client = await _connect(address)
    await until(lambda: service.ledger.live)
    first = service.stopService()
    [again] = await _started(service)
    await _turns()
    assert not first.called
    client.transport.loseConnection()
    await first
    other = await _connect(again)
    other.transport.write(b"here")
    await until(lambda: other.data)
    second = ensureDeferred(_ending(service))
    other.transport.loseConnection()
    await second


@with_reactor
async def test_suspended_and_stopped_it_accepts_when_it_is_started_again() -> None:
    service = SocketService(HelloFactory(), listen=[LOOPBACK])
    await _started(service)
    service.suspend()
    await service.stopService()
    [address] = await _started(service)
    assert await (await _connect(address)).whole == b"Hello, world!\n"
    await service.stopService()


@with_reactor
async def test_started_again_it_leaves_those_who_wait_for_the_stop_before() -> None:
    limits = Limits(max_connections=1, at_limit="wait")
    with socket.create_server(("127.0.0.1", 0)) as free:
        description = f"tcp:{free.getsockname()[1]}:interface=127.0.0.1"
    service = SocketService(EchoFactory(), [description], limits, Stopping(graceful_timeout=600))
    [address] = await _started(service)
    first = await _connect(address)
    await until(lambda: service.ledger.live)
    with socket.create_connection(("127.0.0.1", address.port), 30) as waiting:
        stopped = service.stopService()
        await _turns()
        assert not stopped.called
        assert await _started(service) == [address]
        with pytest.raises(ConnectionResetError):
            waiting.recv(1)
    first.transport.loseConnection()
    await stopped
    assert service.ledger.live == 0
    again = await _connect(address)
    again.transport.write(b"here")
    await until(lambda: again.data)
    service.hurry()
    await service.stopService()


@with_reactor
async def test_started_again_it_takes_a_udp_port_over_from_the_stop_before() -> None:
    class Pausing(DatagramProtocol):
        paused = 0
        transport: Any

        def datagramReceived(self, datagram: bytes, addr: Any) -> None:
            Pausing.paused += 1
            self.transport.stopReading()

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        where = free.getsockname()
    service = SocketService(Pausing, [f"udp:{where[1]}:interface=127.0.0.1"], Stopping(flush=600))
    await _started(service)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        for _ in range(2):  # the second waits for the protocol, and the stop for that
            client.sendto(b"x", where)
        await until(lambda: Pausing.paused)
        stopped = service.stopService()
        await _turns()
        assert not stopped.called
        [address] = await _started(service)
        assert address.port == where[1]
        await stopped
        client.sendto(b"x", where)
        await until(lambda: Pausing.paused == 2)
    service.hurry()
    await service.stopService()


async def _ending(service: SocketService) -> None:
    await service.stopService()
