"""That what a host is given gets to where it works, or is refused where it would do nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString, connectProtocol
from twisted.internet.protocol import DatagramProtocol

from sockservices.guards import Limits
from sockservices.host import SocketService
from sockservices.ledger import Closed, Event, Opened
from sockservices.listening import DescriptionError
from sockservices.proxy_protocol import ProxyProtocol
from sockservices.services.echo import EchoFactory
from sockservices.tls import Certificate
from tests.certificates import HAVE_FOLDERS, make_certificate
from tests.fakes import Heard, with_reactor

reactor: Any = _reactor
LOOPBACK = "tcp:0:interface=127.0.0.1"


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    make_certificate(tmp_path)
    return Certificate(str(tmp_path / "trusted/cert.pem"), str(tmp_path / "key.pem"))


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ({"proxy_protocol": ProxyProtocol()}, "PROXY headers"),
        ({"limits": Limits(max_connections=1)}, "max connections"),
        ({"limits": Limits(max_per_source=1)}, "max per source"),
        ({"idle_timeout": 1.0}, "idle timeout"),
        ({"max_time": 1.0}, "max time"),
        ({"max_write_buffer": 1}, "max write buffer"),
    ],
)
def test_what_is_of_streams_needs_a_stream(arguments: dict[str, Any], what: str) -> None:
    with pytest.raises(DescriptionError) as raised:
        SocketService(datagram=DatagramProtocol, listen=["udp:0"], name="quiet", **arguments)
    assert str(raised.value) == f"quiet has no stream listener for {what}"


def test_tls_is_of_streams(certificate: Certificate) -> None:
    with pytest.raises(DescriptionError, match=r"^quiet has no stream listener for TLS$"):
        SocketService(datagram=DatagramProtocol, listen=["udp:0"], name="quiet", tls=certificate)


def test_users_are_of_unix_sockets() -> None:
    with pytest.raises(DescriptionError, match="echo has no Unix listener: of others users"):
        SocketService(EchoFactory(), listen=[LOOPBACK], limits=Limits(allow_users=[0]), name="echo")


# Twisted's own, with a recent pyOpenSSL.
@pytest.mark.filterwarnings("ignore:X509:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")
def test_a_listener_has_tls_once(certificate: Certificate, tmp_path: Path) -> None:
    files = f"privateKey={tmp_path}/key.pem:certKey={tmp_path}/trusted/cert.pem"
    trusted = f"tls:{tmp_path}/trusted:0"
    (tmp_path / "trusted/localhost.pem").write_text(
        (tmp_path / "key.pem").read_text() + (tmp_path / "trusted/cert.pem").read_text()
    )
    (tmp_path / "trusted/cert.pem").rename(tmp_path / "cert.pem")
    files = files.replace("trusted/", "")
    descriptions = [f"ssl:0:{files}", f"haproxy:ssl:0:{files}"]
    for description in (*descriptions, *([trusted] if HAVE_FOLDERS else [])):
        SocketService(EchoFactory(), listen=[description])
        with pytest.raises(DescriptionError) as raised:
            SocketService(EchoFactory(), listen=[description], tls=certificate)
        assert str(raised.value) == f"{description!r} has TLS of its own: one is enough"
    for description in ("tcp:0", "haproxy:tcp:0", f"unix:{tmp_path}/ssl"):
        SocketService(EchoFactory(), listen=[description], tls=certificate)


async def _why_closed(**arguments: Any) -> str:
    service = SocketService(EchoFactory(), listen=[LOOPBACK], **arguments)
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
async def test_times_are_those_that_were_given(certificate: Certificate) -> None:
    assert await _why_closed(idle_timeout=0.01) == "idle-timeout"
    assert await _why_closed(max_time=0.01) == "max-time"
    assert await _why_closed(tls=certificate, handshake_timeout=0.01) == "handshake-timeout"


@pytest.mark.parametrize(
    ("arguments", "home"),
    [
        ({}, "sockservices.eager.tcp"),
        ({"stock_transports": False}, "sockservices.eager.tcp"),
        ({"stock_transports": True}, "sockservices.eager.stock"),
    ],
)
@with_reactor
async def test_transports_are_eager_unless_stock_ones_are_asked_for(
    arguments: dict[str, Any], home: str
) -> None:
    service = SocketService(EchoFactory(), listen=[LOOPBACK], **arguments)
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
