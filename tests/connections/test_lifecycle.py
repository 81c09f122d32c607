from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import attrs
import pytest
from twisted.internet import reactor as _reactor
from twisted.internet.endpoints import clientFromString, connectProtocol
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.logger import formatEvent
from twisted.python import log
from zope.interface import implementer

from sockservices.connections.ledger import Closed, Connection, Event, Ledger, Opened, Refused
from sockservices.connections.limits import Limits
from sockservices.connections.networks import network
from sockservices.connections.parts import Context, Part, RunningPart
from sockservices.connections.proxy_protocol import ProxyProtocol
from sockservices.connections.timeouts import Timeouts
from sockservices.errors import DescriptionError, SettingError
from sockservices.host.host import SocketService
from sockservices.host.stopping import Stopping
from sockservices.listening import Listening
from sockservices.service import IDrainable
from sockservices.services.echo import EchoFactory
from tests.fakes import Heard, logged, until, with_reactor

reactor: Any = _reactor
HEADER = b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 2000\r\n"
LOCAL = b"PROXY UNKNOWN\r\n"
ANY = ProxyProtocol(proxy_protocol="any")
LOOPBACK = "tcp:0:interface=127.0.0.1"


class Telling(Protocol):
    """Tells its peer who it is, and then echoes."""

    transport: Any

    def connectionMade(self) -> None:
        peer, host = self.transport.getPeer(), self.transport.getHost()
        self.transport.write(f"{peer.host}:{peer.port} {host.host}:{host.port}\n".encode())

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)


@implementer(IHalfCloseableProtocol)
class HalfClosing(Telling):
    def readConnectionLost(self) -> None:
        self.transport.write(b"end\n")
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None: ...


class Pausing(Telling):
    """Reads nothing for some turns, as one that has to connect to somebody else first."""

    def connectionMade(self) -> None:
        super().connectionMade()
        self.is_ready = False
        self.transport.pauseProducing()
        reactor.callLater(0.01, self._resume)

    def _resume(self) -> None:
        self.transport.resumeProducing()
        self.transport.pauseProducing()
        reactor.callLater(0.01, self._resume_again)

    def _resume_again(self) -> None:
        self.is_ready = True
        self.transport.resumeProducing()

    def dataReceived(self, data: bytes) -> None:
        assert self.is_ready
        super().dataReceived(data)


class Leaving(Telling):
    """Closes before it has read anything."""

    def connectionMade(self) -> None:
        self.transport.write(b"bye\n")
        self.transport.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        raise AssertionError(data)


class LeavingLater(Pausing):
    def _resume_again(self) -> None:
        self.transport.write(b"bye\n")
        self.transport.loseConnection()


class FailingLater(Pausing):
    def dataReceived(self, data: bytes) -> None:
        raise RuntimeError("broken")


class Client(Heard):
    async def until(self, wanted: bytes) -> None:
        await until(lambda: wanted in self.data or self.whole.called)
        assert wanted in self.data, f"it ended with {self.data!r}"


class Setup:
    """A service behind a proxy, and what its ledger tells."""

    def __init__(
        self, protocol: type[Protocol] = Telling, *parts: Part, stock: bool = False
    ) -> None:
        self.events: list[Event] = []
        factory = Factory.forProtocol(protocol)
        factory.noisy = False
        if not any(isinstance(each, ProxyProtocol) for each in parts):
            parts = (ANY, *parts)
        listening = Listening(listen=[LOOPBACK], stock_transports=stock)
        self.service = SocketService(factory, listening, *parts)
        self.service.ledger.subscribe(self.events.append)

    async def __aenter__(self) -> Setup:
        self.service.startService()
        [self.address] = await self.service.when_listening()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.service.stopService()

    async def connect(self) -> Client:
        text = f"tcp:127.0.0.1:{self.address.port}"
        client: Client = await connectProtocol(clientFromString(reactor, text), Client())
        return client


@pytest.mark.parametrize("stock", [False, True])
@pytest.mark.parametrize("protocol", [Telling, Pausing])
@with_reactor
async def test_the_service_sees_the_client_not_the_proxy(
    stock: bool, protocol: type[Protocol]
) -> None:
    async with Setup(protocol, stock=stock) as setup:
        client = await setup.connect()
        client.transport.write(HEADER + b"with it\n")
        await client.until(b"192.0.2.1:1000 192.0.2.2:2000\nwith it\n")
        client.transport.write(b"after it\n")
        await client.until(b"\nwith it\nafter it\n")
        [connection] = setup.service.ledger
        assert connection.peer.host == "192.0.2.1"  # type: ignore[attr-defined]
        client.transport.loseConnection()
        await client.whole
    opened, closed = setup.events
    assert isinstance(opened, Opened)
    assert isinstance(closed, Closed)
    assert opened.connection is closed.connection is connection
    totals = setup.service.ledger.totals
    assert (totals.opened, totals.refused) == (1, {})
    assert totals.bytes_in == len(HEADER + b"with it\nafter it\n")


@with_reactor
async def test_a_header_may_come_byte_by_byte() -> None:
    async with Setup() as setup:
        client = await setup.connect()
        client.transport.setTcpNoDelay(True)
        for each in HEADER:
            assert client.data == b""
            assert setup.events == []
            client.transport.write(bytes([each]))
            await deferLater(reactor, 0)
        await client.until(b"192.0.2.1:1000 192.0.2.2:2000\n")


def _deadlines() -> int:
    """Count the calls that are due later than any that a test waits for."""
    return sum(call.getTime() > reactor.seconds() + 600 for call in reactor.getDelayedCalls())


@with_reactor
async def test_after_its_header_it_has_all_the_time() -> None:
    async with Setup(Telling, Timeouts(handshake_timeout=7200)) as setup:
        client = await setup.connect()
        client.transport.write(HEADER[:-1])
        await until(lambda: _deadlines() == 1)
        client.transport.write(HEADER[-1:])
        await client.until(b"192.0.2.1")
        assert _deadlines() == 0
        client.transport.write(b"still here\n")
        await client.until(b"still here\n")


@with_reactor
async def test_one_that_goes_forgets_its_deadline() -> None:
    async with Setup(Telling, Timeouts(handshake_timeout=7200)) as setup:
        client = await setup.connect()
        await until(lambda: _deadlines() == 1)
        with logged() as events:
            client.transport.abortConnection()
            await until(lambda: _deadlines() == 0)
    assert [each for each in events if "log_failure" in each] == []


class Logging(Telling):
    """Logs when it is connected and when it gets something."""

    def connectionMade(self) -> None:
        log.msg("connected")

    def dataReceived(self, data: bytes) -> None:
        log.msg(f"got {data!r}")
        super().dataReceived(data)


@pytest.mark.parametrize("stock", [False, True])
@with_reactor
async def test_what_it_logs_has_the_clients_address(stock: bool) -> None:
    with logged() as events:
        async with Setup(Logging, stock=stock) as setup:
            client = await setup.connect()
            client.transport.write(HEADER + b"1")
            await client.until(b"1")
            client.transport.write(b"2")
            await client.until(b"2")
    systems = {
        each["log_text"]: each["log_system"]
        for each in events
        if each.get("log_text") in ("connected", "got b'1'", "got b'2'")
    }
    assert set(systems) == {"connected", "got b'1'", "got b'2'"}
    assert {each.split(",")[2] for each in systems.values()} == {"192.0.2.1"}
    assert {each.split(",")[0] for each in systems.values()} == {"Logging"}


@with_reactor
async def test_one_whose_header_comes_during_a_stop_is_drained() -> None:
    @implementer(IDrainable)
    class Draining(Telling):
        def drain(self) -> None:
            self.transport.write(b"good-bye\n")
            self.transport.loseConnection()

    async with Setup(Draining, Stopping(graceful_timeout=60)) as setup:
        client = await setup.connect()
        await until(lambda: setup.service.ledger.live)
        stopped = setup.service.stopService()
        await deferLater(reactor, 0.01)
        client.transport.write(HEADER)
        assert (await client.whole).endswith(b"good-bye\n")
        await stopped
    assert setup.service.ledger.totals.closed == {"closed": 1}


@with_reactor
async def test_local_keeps_the_addresses_of_the_socket() -> None:
    async with Setup() as setup:
        client = await setup.connect()
        client.transport.write(LOCAL)
        own = client.transport.getHost()
        await client.until(f"127.0.0.1:{own.port} 127.0.0.1:{setup.address.port}\n".encode())


@with_reactor
async def test_an_end_of_input_with_the_header_is_the_services() -> None:
    async with Setup(HalfClosing) as setup:
        client = await setup.connect()
        client.transport.write(HEADER + b"all\n")
        client.transport.loseWriteConnection()
        assert (await client.whole).endswith(b"\nall\nend\n")


@pytest.mark.parametrize("protocol", [Leaving, LeavingLater])
@with_reactor
async def test_a_service_may_close_before_it_reads(protocol: type[Protocol]) -> None:
    async with Setup(protocol) as setup:
        client = await setup.connect()
        with logged() as events:
            client.transport.write(HEADER + b"unread\n")
            assert (await client.whole).endswith(b"bye\n")
    assert [each for each in events if "log_failure" in each] == []
    assert setup.service.ledger.totals.closed == {"closed": 1}


@with_reactor
async def test_a_service_that_fails_on_what_came_first_costs_its_connection() -> None:
    async with Setup(FailingLater) as setup:
        client = await setup.connect()
        with logged() as events:
            client.transport.write(HEADER + b"bad\n")
            await client.whole
    [failure] = [each for each in events if "log_failure" in each]
    assert failure["peer"] == "192.0.2.1, port 1000"
    assert setup.service.ledger.totals.closed == {"aborted": 1}


@pytest.mark.parametrize(
    ("sent", "part", "reason"),
    [
        (b"hello\n", ANY, "proxy-header"),
        (HEADER, ProxyProtocol(proxy_protocol="v2"), "proxy-header"),
        (HEADER[:-1], Timeouts(handshake_timeout=0.05), "handshake-timeout"),
        (b"", Timeouts(handshake_timeout=0.05), "handshake-timeout"),
        (b"", Timeouts(max_time=0.05), "max-time"),
        (b"", ProxyProtocol(proxy_protocol="any", proxy_allow_from=()), "proxy-allow-from"),
        (HEADER, Limits(deny=[network("192.0.2.1")]), "denied"),
    ],
)
@with_reactor
async def test_refused_once_and_never_opened(sent: bytes, part: Part, reason: str) -> None:
    async with Setup(Telling, part) as setup:
        client = await setup.connect()
        client.transport.write(sent)
        assert await client.whole == b""
        assert setup.service.ledger.live == 0
    [event] = setup.events
    assert isinstance(event, Refused)
    assert event.reason == reason
    if reason == "denied":
        assert event.peer.host == "192.0.2.1"  # type: ignore[attr-defined]
    assert setup.service.ledger.totals.refused == {reason: 1}
    assert setup.service.ledger.totals.opened == 0


@with_reactor
async def test_one_that_ends_before_its_header_is_refused() -> None:
    async with Setup() as setup:
        client = await setup.connect()
        client.transport.write(HEADER[:10])
        client.transport.loseConnection()
        await client.whole
        await until(lambda: setup.events and not setup.service.ledger.live)
    assert setup.service.ledger.totals.refused == {"proxy-header": 1}


@with_reactor
async def test_limits_are_of_clients_not_of_proxies() -> None:
    limits = Limits(max_per_source=1, max_connections=3)
    async with Setup(Telling, limits) as setup:
        first, second, third = [await setup.connect() for _ in range(3)]
        fourth = await setup.connect()  # three have a place, though none has shown its header
        assert await fourth.whole == b""
        first.transport.write(HEADER)
        second.transport.write(HEADER.replace(b"192.0.2.1", b"192.0.2.9"))
        await first.until(b"192.0.2.1")
        await second.until(b"192.0.2.9")
        third.transport.write(HEADER)
        assert await third.whole == b""
    refused = setup.service.ledger.totals.refused
    assert refused == {"max-connections": 1, "max-per-source": 1}


@with_reactor
async def test_those_that_wait_for_their_header_are_ended_by_a_stop() -> None:
    async with Setup() as setup:
        client = await setup.connect()
        await until(lambda: setup.service.ledger.live)
    await client.whole
    assert setup.service.ledger.live == 0
    assert setup.service.ledger.totals.refused == {"stop": 1}


@with_reactor
async def test_a_reload_does_not_take_the_proxy_for_a_client(tmp_path: Path) -> None:
    denied = tmp_path / "denied"
    denied.write_text("")
    async with Setup(Telling, Limits(deny_file=[str(denied)])) as setup:
        waiting, known = [await setup.connect() for _ in range(2)]
        known.transport.write(HEADER)
        await known.until(b"192.0.2.1")
        denied.write_text("127.0.0.1\n192.0.2.1\n")
        setup.service.reload()
        await known.whole
        waiting.transport.write(HEADER.replace(b"192.0.2.1", b"192.0.2.9"))
        await waiting.until(b"192.0.2.9")
    assert setup.service.ledger.totals.closed["denied"] == 1


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (Limits(allow_user=[os.getuid()]), b"x"),
        (Limits(allow_user=[os.getuid() + 1]), b""),
        (Limits(allow_group=[os.getgid()]), b"x"),
        (Limits(allow_group=[os.getgid() + 1000]), b""),
        (Limits(allow_user=[os.getuid() + 1], allow_group=[os.getgid()]), b"x"),
    ],
)
@with_reactor
async def test_unix_peers_are_let_in_by_their_user_and_group(
    limits: Limits, expected: bytes, tmp_path: Path
) -> None:
    async def ask() -> bytes:
        endpoint = clientFromString(reactor, f"unix:{tmp_path}/s")
        client: Client = await connectProtocol(endpoint, Client())
        client.transport.write(b"x")
        client.transport.loseWriteConnection()
        return await client.whole

    events: list[Event] = []
    factory = Factory.forProtocol(Protocol)
    factory.noisy = False

    class Echoing(Protocol):
        def dataReceived(self, data: bytes) -> None:
            transport: Any = self.transport
            transport.write(data)
            transport.loseConnection()

    factory.protocol = Echoing
    listen = [f"unix:{tmp_path}/s", LOOPBACK]
    service = SocketService(factory, listen, limits)
    service.ledger.subscribe(events.append)
    service.startService()
    _path, tcp = await service.when_listening()
    assert await ask() == expected
    # Peers of the network have no user.
    text = f"tcp:127.0.0.1:{tcp.port}"
    client: Client = await connectProtocol(clientFromString(reactor, text), Client())
    client.transport.write(b"x")
    assert await client.whole == b"x"
    await service.stopService()
    kinds = [type(each) for each in events]
    if expected:
        assert kinds == [Opened, Closed] * 2
    else:
        assert kinds == [Refused, Opened, Closed]
        assert service.ledger.totals.refused == {"user": 1}


def test_users_cannot_be_told_of_datagrams(tmp_path: Path) -> None:
    with pytest.raises(
        DescriptionError,
        match=r"/d' is for datagrams, but users and groups are known for streams only$",
    ):
        SocketService(EchoFactory(), [f"unixgram:{tmp_path}/d"], Limits(allow_user=[0]))


def test_two_readers_of_headers_are_one_too_many() -> None:
    with pytest.raises(ValueError, match="already reads PROXY headers; do not enable"):
        SocketService(
            Factory.forProtocol(Telling), ["haproxy:tcp:0"], ProxyProtocol(proxy_protocol="any")
        )


def test_users_are_of_unix_listeners() -> None:
    with pytest.raises(SettingError, match="goes with a Unix stream listener"):
        SocketService(Factory.forProtocol(Telling), ["tcp:0"], Limits(allow_user=[0]))


# A service that fails


class Broken(Factory):
    """Fails in one step or another."""

    noisy = False

    def __init__(self, step: str) -> None:
        self.step = step

    def buildProtocol(self, addr: Any) -> Any:
        if self.step == "built":
            raise RuntimeError("built")
        return None if self.step == "refused" else Fragile()


class Fragile(Protocol):
    def connectionMade(self) -> None:
        raise RuntimeError("connected")


@pytest.mark.parametrize(
    ("step", "opened", "refused", "said"),
    [
        ("built", 0, {"service": 1}, "Broken failed on a new connection from 127.0.0.1, port "),
        ("connected", 1, {}, "Fragile failed on a new connection from 127.0.0.1, port "),
        ("refused", 0, {"service": 1}, None),
    ],
)
@pytest.mark.parametrize("proxied", [False, True])
@with_reactor
async def test_a_service_that_fails_costs_its_connection(
    step: str, opened: int, refused: dict[str, int], said: str | None, proxied: bool
) -> None:
    parts = [ANY] if proxied else []
    service = SocketService(Broken(step), [LOOPBACK], *parts)
    told: list[Event] = []
    service.ledger.subscribe(told.append)
    service.startService()
    [address] = await service.when_listening()
    with logged() as events:
        text = f"tcp:127.0.0.1:{address.port}"
        client: Client = await connectProtocol(clientFromString(reactor, text), Client())
        client.transport.write(LOCAL)
        assert await client.whole == b""
        await until(lambda: not service.ledger.live)
    totals = service.ledger.totals
    assert (totals.opened, totals.refused) == (opened, refused)
    for each in told:
        known: Any = each if isinstance(each, Refused) else each.connection
        assert (known.listener, known.peer.host) == (LOOPBACK, "127.0.0.1")
    failures = [formatEvent(each) for each in events if "log_failure" in each]
    assert [each.startswith(said or "") for each in failures] == ([True] if said else [])
    await service.stopService()


class Careless(Part):
    """A part that fails when a connection is opened."""

    def begin(self, context: Context) -> RunningPart[Any]:
        running: RunningPart[Any] = RunningPart(self, context)
        running.opened = self._fail
        return running

    def _fail(self, _connection: Connection, _peer: Any) -> None:
        raise RuntimeError("opened")


@with_reactor
async def test_a_part_that_fails_costs_the_connection_and_not_its_place() -> None:
    async with Setup(Telling, ProxyProtocol(), Careless()) as setup:
        with logged() as events:
            client = await setup.connect()
            assert await client.whole == b""
            await until(lambda: not setup.service.ledger.live)
    assert [str(each["log_failure"].value) for each in events if "log_failure" in each] == [
        "opened"
    ]
    assert setup.service.ledger.totals.closed == {"aborted": 1}


class Asking(Factory):
    """Remembers for whom it was asked."""

    noisy = False
    protocol = Telling

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def buildProtocol(self, addr: Any) -> Any:
        self.asked.append(addr)
        return super().buildProtocol(addr)


@attrs.frozen
class Watching(Part):
    def begin(self, context: Context) -> RunningPart[Any]:
        running: RunningPart[Any] = RunningPart(self, context)
        told: list[str] = context.ledger.told  # type: ignore[attr-defined]
        running.entered = lambda each: told.append(f"entered {each.id} {each.protocol}")
        running.opened = lambda each, peer: told.append(f"opened {each.id} {peer.host}")
        running.closed = lambda each: told.append(f"closed {each.id}")
        return running


@pytest.mark.parametrize("proxied", [False, True])
@with_reactor
async def test_the_factory_and_the_parts_are_told_who_it_is(
    proxied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(Ledger, "told", told, raising=False)
    factory = Asking()
    parts = [ANY, Watching()] if proxied else [Watching()]
    service = SocketService(factory, [LOOPBACK], *parts)
    service.startService()
    [address] = await service.when_listening()
    text = f"tcp:127.0.0.1:{address.port}"
    client: Client = await connectProtocol(clientFromString(reactor, text), Client())
    host = "192.0.2.1" if proxied else "127.0.0.1"
    client.transport.write(HEADER if proxied else b"")
    await client.until(host.encode())
    client.transport.loseConnection()
    await until(lambda: not service.ledger.live)
    assert [each.host for each in factory.asked] == [host]
    entered = ["entered 1 None"] if proxied else []
    assert told == [*entered, f"opened 1 {host}", "closed 1"]
    await service.stopService()
