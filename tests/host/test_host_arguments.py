"""That what a host is given gets to where it works, or is refused where it would do nothing."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import attrs
import pytest
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString, connectProtocol, wrapClientTLS
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.ssl import CertificateOptions
from twisted.internet.task import deferLater
from twisted.logger import formatEvent
from zope.interface import implementer

from sockservices.connections.ledger import Closed, Connection, Event, Opened
from sockservices.connections.limits import Limits
from sockservices.connections.parts import Context, Part, RunningPart
from sockservices.connections.proxy_protocol import ProxyProtocol
from sockservices.connections.rates import Rate
from sockservices.connections.timeouts import Timeouts
from sockservices.connections.tls import TLS
from sockservices.errors import DescriptionError, SettingError
from sockservices.host.host import SocketService
from sockservices.host.stopping import Stopping
from sockservices.listening import Listening
from sockservices.service import IPausesListeners
from sockservices.services.echo import EchoFactory
from sockservices.settings import Settings, setting
from tests.certificates import HAVE_FOLDERS, make_certificate
from tests.fakes import Heard, logged, until, with_reactor

reactor: Any = _reactor
LOOPBACK = "tcp:0:interface=127.0.0.1"


@pytest.fixture
def certificate(tmp_path: Path) -> TLS:
    make_certificate(tmp_path)
    return TLS(tls_cert=str(tmp_path / "trusted/cert.pem"), tls_key=str(tmp_path / "key.pem"))


@pytest.mark.parametrize(
    ("part", "what"),
    [
        (ProxyProtocol(proxy_protocol="any"), "proxy_protocol"),
        (Limits(max_connections=1), "max_connections"),
        (Limits(max_per_source=1), "max_per_source"),
        (Limits(max_write_buffer=1), "max_write_buffer"),
        (Timeouts(idle_timeout=1.0), "idle_timeout"),
        (Timeouts(max_time=1.0), "max_time"),
    ],
)
def test_what_is_of_streams_needs_a_stream(part: Part, what: str) -> None:
    with pytest.raises(SettingError) as raised:
        SocketService(DatagramProtocol, ["udp:0"], part, name="quiet")
    assert str(raised.value) == f"{what} goes with a stream listener, and quiet has none"


def test_tls_is_of_streams(certificate: TLS) -> None:
    with pytest.raises(SettingError, match=r"^tls_cert goes with a stream listener, and quiet"):
        SocketService(DatagramProtocol, ["udp:0"], certificate, name="quiet")


def test_users_are_of_unix_sockets() -> None:
    with pytest.raises(SettingError, match="allow_user goes with a Unix stream listener, and echo"):
        SocketService(EchoFactory(), [LOOPBACK], Limits(allow_user=[0]), name="echo")


def test_one_group_of_a_kind_is_enough() -> None:
    with pytest.raises(TypeError, match=r"^Limits is given twice$"):
        SocketService(EchoFactory(), [LOOPBACK], Limits(), Limits(max_connections=1))


@pytest.mark.parametrize("part", [Limits, 7, Listening(port=0)])
def test_what_is_no_part_is_refused(part: Any) -> None:
    with pytest.raises(TypeError, match=r"is not a part of a host, such as Limits\(\)$"):
        SocketService(EchoFactory(), [LOOPBACK], part)


# Twisted's own, with a recent pyOpenSSL.
@pytest.mark.filterwarnings("ignore:X509:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")
def test_a_listener_has_tls_once(tmp_path: Path) -> None:
    make_certificate(tmp_path)
    files = f"privateKey={tmp_path}/key.pem:certKey={tmp_path}/trusted/cert.pem"
    trusted = f"tls:{tmp_path}/trusted:0"
    (tmp_path / "trusted/localhost.pem").write_text(
        (tmp_path / "key.pem").read_text() + (tmp_path / "trusted/cert.pem").read_text()
    )
    (tmp_path / "trusted/cert.pem").rename(tmp_path / "cert.pem")
    certificate = TLS(tls_cert=str(tmp_path / "cert.pem"), tls_key=str(tmp_path / "key.pem"))
    files = files.replace("trusted/", "")
    descriptions = [f"ssl:0:{files}", f"haproxy:ssl:0:{files}"]
    for description in (*descriptions, *([trusted] if HAVE_FOLDERS else [])):
        SocketService(EchoFactory(), listen=[description])
        with pytest.raises(DescriptionError) as raised:
            SocketService(EchoFactory(), [description], certificate)
        assert (
            str(raised.value)
            == f"{description!r} already uses TLS; do not set a TLS certificate as well"
        )
    for description in ("tcp:0", "haproxy:tcp:0", f"unix:{tmp_path}/ssl"):
        SocketService(EchoFactory(), [description], certificate)


@pytest.mark.parametrize(
    "by_address",
    [
        {"allow": ["192.0.2.0/24"]},
        {"deny": ["192.0.2.0/24"]},
        {"allow_file": ["networks"]},
        {"deny_file": ["networks"]},
        {"max_per_source": 1},
        {"rate_per_source": "1/1"},
    ],
)
@pytest.mark.parametrize("description", ["haproxy:tcp:0", "haproxy:unix:s"])
def test_limits_by_address_do_not_go_with_twisteds_own_headers(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    by_address: dict[str, Any],
    description: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "networks").write_text("192.0.2.0/24\n")
    with pytest.raises(DescriptionError) as raised:
        SocketService(EchoFactory(), [LOOPBACK, description], Limits(**by_address))
    assert str(raised.value) == (
        f"{description!r} reads the addresses of clients after the limits by address have been "
        "applied; use --proxy-protocol instead of haproxy:"
    )
    SocketService(EchoFactory(), [LOOPBACK], Limits(**by_address))
    SocketService(EchoFactory(), [description], Limits(max_connections=1, rate=Rate(1, 1)))


async def _why_closed(*parts: Part) -> str:
    service = SocketService(EchoFactory(), [LOOPBACK], *parts)
    events: list[Event] = []
    service.ledger.subscribe(events.append)
    service.startService()
    [address] = await service.when_listening()
    endpoint = clientFromString(reactor, f"tcp:127.0.0.1:{address.port}")
    client: Any = await connectProtocol(endpoint, Heard())
    await client.whole
    await service.stopService()
    [reason] = [each.reason for each in events if isinstance(each, Closed)]
    return reason


@with_reactor
async def test_times_are_those_that_were_given(certificate: TLS) -> None:
    assert await _why_closed(Timeouts(idle_timeout=0.01)) == "idle-timeout"
    assert await _why_closed(Timeouts(max_time=0.01)) == "max-time"
    short = Timeouts(handshake_timeout=0.01)
    assert await _why_closed(certificate, short) == "handshake-timeout"


@pytest.mark.parametrize(
    ("arguments", "home"),
    [
        ({}, "sockservices.transports.tcp"),
        ({"stock_transports": False}, "sockservices.transports.tcp"),
        ({"stock_transports": True}, "sockservices.transports.stock_streams"),
    ],
)
@with_reactor
async def test_transports_are_eager_unless_stock_ones_are_asked_for(
    arguments: dict[str, Any], home: str
) -> None:
    service = SocketService(EchoFactory(), Listening(listen=[LOOPBACK], **arguments))
    homes: Deferred[str] = Deferred()

    def hear(event: Event) -> None:
        if isinstance(event, Opened):
            homes.callback(type(event.connection.transport).__module__)

    service.ledger.subscribe(hear)
    service.startService()
    [address] = await service.when_listening()
    endpoint = clientFromString(reactor, f"tcp:127.0.0.1:{address.port}")
    client: Any = await connectProtocol(endpoint, Heard())
    assert await homes == home
    client.transport.loseConnection()
    await client.whole
    await service.stopService()


# Other settings while it runs


async def _client(service: SocketService) -> Heard:
    [address] = service.addresses
    endpoint = clientFromString(reactor, f"tcp:127.0.0.1:{address.port}")
    client: Heard = await connectProtocol(endpoint, Heard())
    return client


@with_reactor
async def test_other_limits_hold_at_once_and_for_those_that_live() -> None:
    service = SocketService(EchoFactory(), [LOOPBACK])
    service.startService()
    await service.when_listening()
    first = await _client(service)
    await until(lambda: service.ledger.live == 1)
    service.change(Limits(max_connections=1))
    assert await (await _client(service)).whole == b""
    assert service.ledger.totals.refused == {"max-connections": 1}
    service.change(Limits(max_connections=2), Timeouts(idle_timeout=0.01))
    await first.whole
    assert service.ledger.totals.closed == {"idle-timeout": 1}
    service.change(Timeouts())
    third = await _client(service)
    third.transport.write(b"here")
    await until(lambda: third.data)
    service.change(Limits(deny=["127.0.0.0/8"]))  # type: ignore[list-item]
    await third.whole
    assert service.ledger.totals.closed["denied"] == 1
    await service.stopService()


@with_reactor
async def test_tls_and_headers_can_be_asked_of_connections_to_come(certificate: TLS) -> None:
    service = SocketService(EchoFactory(), [LOOPBACK])
    service.startService()
    await service.when_listening()
    service.change(certificate, ProxyProtocol(proxy_protocol="v1"))
    client = await _client(service)
    client.transport.write(b"PROXY UNKNOWN\r\nno handshake")
    assert b"no handshake" not in await client.whole  # which an echo without TLS sends back
    service.change(TLS(), ProxyProtocol())
    plain = await _client(service)
    plain.transport.write(b"plain")
    await until(lambda: plain.data)
    plain.transport.loseConnection()
    await service.stopService()


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


def test_a_change_is_whole_or_none(tmp_path: Path) -> None:
    networks = tmp_path / "networks"
    networks.write_text("192.0.2.0/24")
    limits = Limits(deny_file=[str(networks)])
    service = SocketService(EchoFactory(), [LOOPBACK], limits)
    networks.write_text("nowhere")
    others: list[tuple[Settings, str]] = [
        (limits, f"deny_file: {networks}, line 1: 'nowhere' is not a network"),
        (Limits(allow_user=[0]), "allow_user goes with a Unix stream listener"),
        (Listening(listen=["tcp:1"]), "listen cannot change while the service runs"),
    ]
    for other, line in others:
        with pytest.raises(SettingError) as caught:
            service.change(Stopping(flush=7), other)
        assert str(caught.value).startswith(line)
        assert service.settings[Stopping] == Stopping()
    service.change(Stopping(flush=7), Listening(listen=[LOOPBACK]))
    assert service.settings[Stopping] == Stopping(flush=7)


# A part of somebody else's


@attrs.frozen
class Greeting(Part):
    heading = "Greeting"

    greeting: str = setting(default="", help="Remember this.")

    def begin(self, context: Context) -> RunningGreeting:
        return RunningGreeting(self, context)


class RunningGreeting(RunningPart[Greeting]):
    told: ClassVar[list[str]] = []

    def apply(self, settings: Greeting, prepared: object) -> None:
        self.settings = settings
        self.ask_peer = self._ask if settings.greeting == "closed" else None
        self.opened = self._opened

    def _ask(self, _peer: Any, _has_place: bool) -> str:
        return "denied"

    def _opened(self, connection: Connection, peer: Any) -> None:
        self.told.append(f"{self.context.service} {peer.host} {connection.id}")

    def start(self) -> None:
        self.told.append("start")

    def stop(self) -> None:
        self.told.append("stop")


@with_reactor
async def test_a_part_of_somebody_elses_takes_part_in_each_life() -> None:
    for parts in ([Greeting()], []):
        RunningGreeting.told.clear()
        service = SocketService(EchoFactory(), [LOOPBACK], *parts, name="echo")
        service.change(Greeting())  # which adds it, if it is not there
        service.startService()
        await service.when_listening()
        client = await _client(service)
        await until(lambda: len(RunningGreeting.told) == 2)
        service.change(Greeting(greeting="closed"))
        assert await (await _client(service)).whole == b""
        client.transport.loseConnection()
        await service.stopService()
        assert RunningGreeting.told == ["start", "echo 127.0.0.1 1", "stop"]


@attrs.frozen
class Fixed(Part):
    heading = "Fixed"

    word: str = setting(default="", help="Stay as it is.", changeable=False)
    many: int = setting(default=0, help="Go with a Unix listener.", listener="Unix stream")

    def begin(self, context: Context) -> RunningPart[Fixed]:
        return RunningPart(self, context)


@with_reactor
async def test_a_part_that_is_added_starts_if_the_host_runs_and_is_checked() -> None:
    RunningGreeting.told.clear()
    service = SocketService(EchoFactory(), [LOOPBACK], name="echo")
    service.startService()
    await service.when_listening()
    service.change(Greeting(), Fixed(word="first"))
    assert RunningGreeting.told == ["start"]
    with pytest.raises(SettingError, match=r"^word cannot change while the service runs$"):
        service.change(Fixed(word="second"))
    with pytest.raises(SettingError, match=r"^many goes with a Unix stream listener, and echo has"):
        service.change(Fixed(word="first", many=1))
    await service.stopService()
    assert RunningGreeting.told == ["start", "stop"]


@pytest.mark.parametrize("listener", [LOOPBACK, f"haproxy:{LOOPBACK}"])
def test_a_reload_without_files_says_so(listener: str) -> None:
    service = SocketService(EchoFactory(), [listener], name="echo")
    with logged() as events:
        service.reload()
    assert [formatEvent(each) for each in events] == [
        "reloaded: nothing, because no files are used"
    ]


class RunningBroken(RunningPart[Fixed]):
    """Fails in one hook."""

    def apply(self, settings: Fixed, prepared: object) -> None:
        self.settings = settings
        if settings.word == "apply":
            raise RuntimeError("apply")
        for name in ("ask_socket", "ask_peer", "ask_datagram", "entered", "waiting"):
            setattr(self, name, self._fail if name == settings.word else None)

    def _fail(self, *_about: Any) -> None:
        raise RuntimeError(self.settings.word)


@attrs.frozen
class Broken(Fixed):
    word: str = setting(default="", help="Where to fail.")

    def begin(self, context: Context) -> RunningPart[Fixed]:
        return RunningBroken(self, context)


@pytest.mark.parametrize(
    ("word", "proxied"),
    [
        ("ask_socket", False),
        ("ask_socket", True),
        ("ask_peer", False),
        ("ask_peer", True),
        ("entered", True),
        ("waiting", True),
    ],
)
@with_reactor
async def test_a_part_that_fails_leaves_no_connection_behind(word: str, proxied: bool) -> None:
    proxy = ProxyProtocol(proxy_protocol="any") if proxied else ProxyProtocol()
    service = SocketService(EchoFactory(), [LOOPBACK], proxy, Broken(word=word))
    service.startService()
    await service.when_listening()
    with logged() as events:
        client = await _client(service)
        client.transport.write(b"PROXY UNKNOWN\r\n")
        assert await client.whole == b""
        await until(lambda: not service.ledger.live)
    [failure] = [each for each in events if "log_failure" in each]
    assert str(failure["log_failure"].value) == word
    assert formatEvent(failure).startswith(
        "ConnectionAcceptor failed on a new connection from 127.0.0.1, port "
    )
    assert service.ledger.totals.refused == {"service": 1}
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
async def test_while_connections_wait_for_a_place_datagrams_are_served() -> None:
    limits = Limits(max_connections=1, at_limit="wait")
    service = SocketService(EchoFactory(), [LOOPBACK, "udp:0:interface=127.0.0.1"], limits)
    service.startService()
    streams, datagrams = await service.when_listening()
    endpoint = clientFromString(reactor, f"tcp:127.0.0.1:{streams.port}")
    first: Heard = await connectProtocol(endpoint, Heard())
    await until(lambda: service.ledger.live == 1)
    second: Heard = await connectProtocol(endpoint, Heard())
    second.transport.write(b"second")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(30)
        client.sendto(b"datagram", ("127.0.0.1", datagrams.port))
        await until(lambda: service.ledger.totals.datagrams == 1)
        assert client.recv(9) == b"datagram"
    assert (service.ledger.totals.opened, second.data) == (1, b"")
    first.transport.loseConnection()
    await until(lambda: second.data == b"second")
    second.transport.loseConnection()
    await service.stopService()


@with_reactor
async def test_a_handshake_that_was_made_in_time_is_not_timed_out(certificate: TLS) -> None:
    service = SocketService(
        EchoFactory(), [LOOPBACK], certificate, Timeouts(handshake_timeout=7200)
    )
    service.startService()
    [address] = await service.when_listening()
    plain = clientFromString(reactor, f"tcp:127.0.0.1:{address.port}")
    endpoint = wrapClientTLS(CertificateOptions(), plain)  # which trusts anybody
    client: Heard = await connectProtocol(endpoint, Heard())
    client.transport.write(b"before")
    await until(lambda: client.data == b"before")
    [deadline] = [
        call for call in reactor.getDelayedCalls() if call.getTime() > reactor.seconds() + 600
    ]
    deadline.reset(0)
    await until(lambda: not deadline.active())
    client.transport.write(b", after")
    await until(lambda: client.data == b"before, after")
    client.transport.loseConnection()
    await service.stopService()


@implementer(IPausesListeners)
class Overloaded(EchoFactory):
    """Asks the hosts to pause when a test does."""

    def __init__(self) -> None:
        super().__init__()
        self.controls: list[tuple[Callable[[], None], Callable[[], None]]] = []

    def add_listeners(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        self.controls.append((pause, resume))


@with_reactor
async def test_a_factory_can_pause_its_listeners() -> None:
    factory = Overloaded()
    service = SocketService(factory, [LOOPBACK, "udp:0:interface=127.0.0.1"], datagram=factory)
    [(pause, resume)] = factory.controls
    pause()
    service.startService()
    streams, datagrams = await service.when_listening()
    endpoint = clientFromString(reactor, f"tcp:127.0.0.1:{streams.port}")
    client: Heard = await connectProtocol(endpoint, Heard())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(30)
        asking.sendto(b"datagram", ("127.0.0.1", datagrams.port))
        for _ in range(20):
            await deferLater(reactor, 0)
        assert (service.ledger.live, service.ledger.totals.datagrams) == (0, 0)
        resume()
        await until(lambda: service.ledger.live and service.ledger.totals.datagrams)
        assert asking.recv(9) == b"datagram"
    client.transport.loseConnection()
    await service.stopService()


def test_what_was_applied_before_a_part_failed_is_in_force() -> None:
    service = SocketService(EchoFactory(), [LOOPBACK], Broken())
    with pytest.raises(RuntimeError, match="apply"):
        service.change(Limits(max_connections=1), Broken(word="apply"))
    assert service.settings[Limits] == Limits(max_connections=1)


def test_one_description_is_one_and_what_is_none_is_refused() -> None:
    assert len(SocketService(EchoFactory(), "tcp:0")._listeners) == 1
    with pytest.raises(SettingError, match="listen: 5 is not an endpoint description, such as"):
        SocketService(EchoFactory(), [5])  # type: ignore[list-item]
