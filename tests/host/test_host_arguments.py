"""That what a host is given gets to where it works, or is refused where it would do nothing."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString, connectProtocol, wrapClientTLS
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.ssl import CertificateOptions
from twisted.internet.task import deferLater
from zope.interface import implementer

from sockservices.connections.ledger import Closed, Event, Opened
from sockservices.connections.limits import Limits
from sockservices.connections.parts import Part
from sockservices.connections.proxy_protocol import ProxyProtocol
from sockservices.connections.rates import Rate
from sockservices.connections.timeouts import Timeouts
from sockservices.connections.tls import TLS
from sockservices.errors import DescriptionError, SettingError
from sockservices.host.host import SocketService
from sockservices.listening import Listening
from sockservices.service import IPausesListeners
from sockservices.services.echo import EchoFactory
from tests.certificates import HAVE_FOLDERS, make_certificate
from tests.fakes import Heard, until, with_reactor

reactor: Any = _reactor
LOOPBACK = "tcp:0:interface=127.0.0.1"


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


def test_one_description_is_one_and_what_is_none_is_refused() -> None:
    assert len(SocketService(EchoFactory(), "tcp:0")._listeners) == 1
    with pytest.raises(SettingError, match="listen: 5 is not an endpoint description, such as"):
        SocketService(EchoFactory(), [5])  # type: ignore[list-item]
