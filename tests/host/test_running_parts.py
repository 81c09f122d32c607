from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import attrs
import pytest
from twisted.internet import reactor as _reactor
from twisted.internet.endpoints import clientFromString, connectProtocol
from twisted.logger import formatEvent

from sockservices.connections.ledger import Connection
from sockservices.connections.limits import Limits
from sockservices.connections.parts import Context, Part, RunningPart
from sockservices.connections.proxy_protocol import ProxyProtocol
from sockservices.connections.timeouts import Timeouts
from sockservices.connections.tls import TLS
from sockservices.errors import SettingError
from sockservices.host.host import SocketService
from sockservices.host.stopping import Stopping
from sockservices.listening import Listening
from sockservices.services.echo import EchoFactory
from sockservices.settings import Settings, setting
from tests.fakes import Heard, logged, until, with_reactor
from tests.host.broken_part import Broken, Fixed

reactor: Any = _reactor
LOOPBACK = "tcp:0:interface=127.0.0.1"


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


def test_what_was_applied_before_a_part_failed_is_in_force() -> None:
    service = SocketService(EchoFactory(), [LOOPBACK], Broken())
    with pytest.raises(RuntimeError, match="apply"):
        service.change(Limits(max_connections=1), Broken(word="apply"))
    assert service.settings[Limits] == Limits(max_connections=1)
