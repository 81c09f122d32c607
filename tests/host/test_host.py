from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path
from typing import Any

import attrs
import pytest
from twisted.application.service import MultiService
from twisted.internet import reactor as _reactor
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import clientFromString, connectProtocol
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from twisted.internet.task import deferLater
from twisted.internet.testing import MemoryReactor
from twisted.logger import formatEvent
from zope.interface import implementer

from sockservices.connections.ledger import Event, Refused
from sockservices.connections.limits import Limits
from sockservices.connections.rates import Rate
from sockservices.connections.tls import TLS
from sockservices.errors import DescriptionError, ListenError
from sockservices.host import host
from sockservices.host.host import SocketService
from sockservices.listening import DatagramListener, Listening, StreamListener
from sockservices.services.counter import CounterFactory
from sockservices.services.echo import EchoFactory
from sockservices.services.hello import HelloFactory
from sockservices.transports.accelerator import language
from tests.certificates import make_certificate
from tests.fakes import Heard, logged, result_of, until, with_reactor

reactor: Any = _reactor
LOOPBACK = "tcp:0:interface=127.0.0.1"
UDP_LOOPBACK = "udp:0:interface=127.0.0.1"


async def _ask(port: int) -> bytes:
    endpoint = clientFromString(reactor, f"tcp:127.0.0.1:{port}")
    heard: Any = await connectProtocol(endpoint, Heard())
    return bytes(await heard.whole)


def _is_free(port: int, kind: socket.SocketKind = socket.SOCK_STREAM) -> bool:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


class Quiet(DatagramProtocol):
    noisy = False


# Real listeners


@with_reactor
async def test_it_listens_stops_and_listens_again() -> None:
    service = SocketService(CounterFactory(), listen=[LOOPBACK])
    assert service.addresses == []
    for number in (1, 2):
        service.startService()
        [address] = await service.when_listening()
        assert service.addresses == [address]
        assert address.port > 0
        assert service.running
        assert await _ask(address.port) == b"Connection %d!\n" % number
        await service.stopService()
        assert service.addresses == []
        assert not service.running
        assert _is_free(address.port)


@with_reactor
async def test_it_has_listeners_of_both_kinds_and_the_addresses_in_their_order(
    tmp_path: Path,
) -> None:
    service = SocketService(
        EchoFactory(),
        listen=[
            f"unixgram:{tmp_path}/datagrams",
            LOOPBACK,
            f"unix:{tmp_path}/streams",
            UDP_LOOPBACK,
        ],
        name="both",
    )
    with logged() as events:
        service.startService()
        addresses = await service.when_listening()
    assert [type(each).__name__ for each in addresses] == [
        "UNIXAddress",
        "IPv4Address",
        "UNIXAddress",
        "IPv4Address",
    ]
    assert [addresses[1].type, addresses[3].type] == ["TCP", "UDP"]
    first, line = [formatEvent(event) for event in events if event["log_namespace"] == "both"]
    assert first == f"transports run in {language}"
    assert line == (
        f"both listening on unixgram:{tmp_path}/datagrams tcp:127.0.0.1:{addresses[1].port} "
        f"unix:{tmp_path}/streams udp:127.0.0.1:{addresses[3].port}"
    )
    await service.stopService()
    assert list(tmp_path.iterdir()) == []


@with_reactor
async def test_the_mode_is_that_of_listeners_that_do_not_say(tmp_path: Path) -> None:
    service = SocketService(
        EchoFactory(),
        Listening(
            listen=[f"unix:{tmp_path}/a", f"unixgram:{tmp_path}/b", f"unix:{tmp_path}/c:mode=640"],
            mode=0o606,
        ),
    )
    service.startService()
    await service.when_listening()
    modes = {each.name: each.stat().st_mode & 0o777 for each in tmp_path.iterdir()}
    await service.stopService()
    assert modes == {"a": 0o606, "b": 0o606, "c": 0o640}


@with_reactor
async def test_one_that_cannot_listen_closes_the_others_and_says_so_once(tmp_path: Path) -> None:
    failures: list[str] = []
    (tmp_path / "file").write_text("mine")
    service = SocketService(
        EchoFactory(),
        listen=[
            f"unix:{tmp_path}/first",
            f"unix:{tmp_path}/file",
            f"unixgram:{tmp_path}/file",
            f"unixgram:{tmp_path}/last",
        ],
        name="unlucky",
        on_failure=failures.append,
    )
    waiting = service.when_listening()
    service.startService()
    with pytest.raises(ListenError):
        await waiting
    assert service.addresses == []
    await deferLater(reactor, 0)  # a turn, in which ports close
    assert failures == [
        f"unlucky: cannot listen on unix:{tmp_path}/file: {tmp_path}/file exists and is not a "
        "socket; it was not changed"
    ]
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
    await service.stopService()
    assert len(failures) == 1


@with_reactor
async def test_a_stop_waits_for_those_that_a_failure_closes(tmp_path: Path) -> None:
    service = SocketService(
        EchoFactory(),
        listen=[f"unix:{tmp_path}/one", f"unix:{tmp_path}/missing/other"],
        on_failure=lambda _line: None,
    )
    service.startService()
    await service.stopService()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["unix", "unixgram"])
@with_reactor
async def test_it_takes_its_abstract_name_again_at_once(kind: str) -> None:
    name = f"sockservices-{os.getpid()}"
    service = SocketService(
        EchoFactory(), [f"{kind}:abstract={name}"], on_failure=lambda _line: None
    )
    service.startService()
    [address] = await service.when_listening()
    assert address.name == b"\0" + name.encode()
    stopped = service.stopService()
    service.startService()
    assert await service.when_listening() == [address]
    await stopped
    await service.stopService()


@with_reactor
async def test_after_a_failure_it_can_be_stopped_and_started_again(tmp_path: Path) -> None:
    failures: list[str] = []
    service = SocketService(
        EchoFactory(), listen=[f"unix:{tmp_path}/new/socket"], on_failure=failures.append
    )
    service.startService()
    await service.stopService()
    assert len(failures) == 1
    (tmp_path / "new").mkdir()
    service.startService()
    assert len(await service.when_listening()) == 1
    await service.stopService()
    assert len(failures) == 1


@with_reactor
async def test_privileged_start_and_start_listen_once() -> None:
    service = SocketService(CounterFactory(), listen=[LOOPBACK])
    application = MultiService()
    service.setServiceParent(application)  # type: ignore[no-untyped-call]
    application.privilegedStartService()
    before = await service.when_listening()
    application.startService()
    assert await service.when_listening() == before
    await application.stopService()
    assert service.addresses == []


# Datagram protocols


@with_reactor
async def test_a_protocol_class_gives_each_listener_its_own() -> None:
    made: list[Quiet] = []

    class Counted(Quiet):
        def __init__(self) -> None:
            made.append(self)

    service = SocketService(Counted, listen=[UDP_LOOPBACK, UDP_LOOPBACK])
    service.startService()
    addresses = await service.when_listening()
    assert len({each.port for each in addresses}) == len(made) == 2
    await service.stopService()


@with_reactor
async def test_a_protocol_object_serves_one_listener_again_and_again() -> None:
    protocol = Quiet()
    service = SocketService(protocol, listen=[UDP_LOOPBACK])
    for _ in range(2):
        service.startService()
        await service.when_listening()
        assert protocol.transport is not None
        await service.stopService()
    with pytest.raises(DescriptionError, match="one Quiet object can have one listener, not 2"):
        SocketService(protocol, listen=[UDP_LOOPBACK, UDP_LOOPBACK])


@with_reactor
async def test_a_datagram_protocol_stands_beside_a_stream_factory() -> None:
    for datagram in (Quiet(), Quiet, EchoFactory(), lambda: Quiet()):
        service = SocketService(
            CounterFactory(), datagram=datagram, listen=[LOOPBACK, UDP_LOOPBACK]
        )
        service.startService()
        assert len(await service.when_listening()) == 2
        await service.stopService()


def test_a_kind_that_is_not_served_is_refused() -> None:
    with pytest.raises(
        DescriptionError, match=r"^CounterFactory serves streams only; 'udp:0' is for datagrams$"
    ):
        SocketService(CounterFactory(), listen=["tcp:0", "udp:0"])
    with pytest.raises(
        DescriptionError, match=r"^Quiet serves datagrams only; 'tcp:0' is for streams$"
    ):
        SocketService(Quiet(), listen=["tcp:0"])


def test_one_datagram_object_has_one_listener_also_beside_streams() -> None:
    SocketService(EchoFactory(), datagram=Quiet(), listen=["tcp:0", "tcp:0", "udp:0"])
    with pytest.raises(DescriptionError) as raised:
        SocketService(CounterFactory(), datagram=Quiet(), listen=["udp:0", "udp:0"])
    assert str(raised.value) == ("one Quiet object can have one listener, not 2: pass its class")


def test_a_class_is_called_by_its_own_name() -> None:
    with pytest.raises(DescriptionError, match=r"^Quiet serves datagrams only"):
        SocketService(Quiet, listen=["tcp:0"])


@pytest.mark.parametrize("service", [object(), None, Protocol(), CounterFactory])
def test_what_serves_neither_kind_is_refused(service: object) -> None:
    with pytest.raises(TypeError, match="is neither a protocol factory nor a datagram protocol"):
        SocketService(service, listen=["tcp:0"])


def test_nowhere_to_listen_is_refused() -> None:
    with pytest.raises(DescriptionError, match="listen is empty"):
        SocketService(CounterFactory(), listen=[])


@pytest.mark.parametrize("description", ["", "tcp", "tcp:99999", "nothing:0", "unix:"])
def test_a_description_that_is_wrong_is_refused_at_once(description: str) -> None:
    with pytest.raises(DescriptionError):
        SocketService(CounterFactory(), listen=[description])


# Endpoints that fire when a test lets them


@implementer(IListeningPort)
class FakePort:
    """A port that remembers whether it was closed."""

    def __init__(self, number: int = 7, closing: Deferred[None] | None = None) -> None:
        self.number = number
        self.stopped = 0
        self.closing = closing

    def startListening(self) -> None:
        raise NotImplementedError

    def stopListening(self) -> Deferred[None] | None:
        self.stopped += 1
        return self.closing

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", self.number)


@attrs.define
class FakeEndpoint:
    """An endpoint whose Deferreds a test fires."""

    asked: list[Deferred[Any]] = attrs.field(factory=list)

    def listen(self, factory: object) -> Deferred[Any]:
        self.asked.append(Deferred())
        return self.asked[-1]


class Slow:
    """A service with fake endpoints, by the number in their descriptions."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *endpoints: FakeEndpoint) -> None:
        def listener(_reactor: object, description: str, *_: int, **_more: bool) -> Any:
            kind = DatagramListener if description.startswith("udp") else StreamListener
            return kind(description, endpoints[int(description[-1])])

        monkeypatch.setattr(host, "listener", listener)
        self.failures: list[str] = []
        self.service = SocketService(
            EchoFactory(),
            listen=[f"tcp:{number}" for number in range(len(endpoints))],
            name="slow",
            on_failure=self.failures.append,
        )


def _fired(deferred: Deferred[Any]) -> list[Any]:
    """What it has fired with: nothing, a result, or what it failed with."""
    try:
        return result_of(deferred)
    except Exception as error:
        return [type(error)]


def test_it_waits_for_an_endpoint_that_fires_late(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = FakeEndpoint(), FakeEndpoint()
    slow = Slow(monkeypatch, one, other)
    before = slow.service.when_listening()
    slow.service.startService()
    during = slow.service.when_listening()
    fired: list[Any] = []
    before.addCallback(fired.append)
    during.addCallback(fired.append)
    other.asked[0].callback(FakePort(2))
    assert fired == []
    one.asked[0].callback(FakePort(1))
    assert [[address.port for address in each] for each in fired] == [[1, 2], [1, 2]]
    assert [each.port for each in slow.service.addresses] == [1, 2]


def test_an_endpoint_that_fails_late_closes_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = FakeEndpoint(), FakeEndpoint()
    slow = Slow(monkeypatch, one, other)
    waiting = slow.service.when_listening()
    slow.service.startService()
    port = FakePort()
    one.asked[0].callback(port)
    assert port.stopped == 0
    other.asked[0].errback(RuntimeError("late\ntrouble"))
    assert port.stopped == 1
    assert slow.failures == [r"slow: cannot listen on tcp:1: late\ntrouble"]
    assert _fired(waiting) == [ListenError]
    assert slow.service.addresses == []


def test_one_that_fires_after_another_has_failed_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one, other = FakeEndpoint(), FakeEndpoint()
    slow = Slow(monkeypatch, one, other)
    slow.service.startService()
    other.asked[0].errback(RuntimeError("trouble"))
    port = FakePort()
    one.asked[0].callback(port)
    assert port.stopped == 1
    assert slow.service.addresses == []
    assert len(slow.failures) == 1


def test_of_two_failures_the_first_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = FakeEndpoint(), FakeEndpoint()
    slow = Slow(monkeypatch, one, other)
    slow.service.startService()
    other.asked[0].errback(RuntimeError("first"))
    one.asked[0].errback(RuntimeError("second"))
    assert slow.failures == ["slow: cannot listen on tcp:1: first"]


def test_a_stop_while_it_starts_is_told_and_is_no_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    endpoint = FakeEndpoint()
    slow = Slow(monkeypatch, endpoint)
    slow.service.startService()
    waiting = slow.service.when_listening()
    assert len(_fired(slow.service.stopService())) == 1
    assert _fired(waiting) == [CancelledError]
    assert slow.failures == []


def test_a_stop_while_it_starts_closes_those_that_listen(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = FakeEndpoint(), FakeEndpoint()
    slow = Slow(monkeypatch, one, other)
    slow.service.startService()
    port = FakePort()
    one.asked[0].callback(port)
    slow.service.stopService()
    assert port.stopped == 1
    assert slow.failures == []


@pytest.mark.parametrize("again", [False, True])
def test_an_endpoint_that_fires_after_the_stop_is_closed(
    monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    endpoint = FakeEndpoint()
    slow = Slow(monkeypatch, endpoint)
    slow.service.startService()
    slow.service.stopService()
    if again:
        slow.service.startService()
    late = FakePort(1)
    endpoint.asked[0].callback(late)
    assert late.stopped == 1
    assert slow.service.addresses == []
    if again:
        endpoint.asked[1].callback(FakePort(2))
        assert [each.port for each in slow.service.addresses] == [2]
    assert slow.failures == []


def test_an_endpoint_that_fires_after_another_start_is_closed_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one, other = FakeEndpoint(), FakeEndpoint()
    slow = Slow(monkeypatch, one, other)
    slow.service.startService()
    slow.service.stopService()
    slow.service.startService()
    stays, late = FakePort(1), FakePort(2)
    one.asked[1].callback(stays)
    one.asked[0].callback(late)
    assert (stays.stopped, late.stopped) == (0, 1)
    other.asked[1].callback(FakePort(3))
    assert [each.port for each in slow.service.addresses] == [1, 3]


def test_a_privileged_start_that_failed_is_not_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    endpoint = FakeEndpoint()
    slow = Slow(monkeypatch, endpoint)
    slow.service.privilegedStartService()
    endpoint.asked[0].errback(RuntimeError("trouble"))
    slow.service.startService()
    assert (len(endpoint.asked), len(slow.failures)) == (1, 1)
    slow.service.stopService()
    slow.service.startService()  # by somebody who has no such first step
    assert len(endpoint.asked) == 2


@pytest.mark.parametrize("again", [False, True])
def test_an_endpoint_that_fails_after_the_stop_is_no_failure(
    monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    endpoint = FakeEndpoint()
    slow = Slow(monkeypatch, endpoint)
    slow.service.startService()
    slow.service.stopService()
    if again:
        slow.service.startService()
    endpoint.asked[0].errback(RuntimeError("too late"))
    assert slow.failures == []
    if again:
        endpoint.asked[1].callback(FakePort(2))
        assert [each.port for each in slow.service.addresses] == [2]


def test_after_a_failure_waiting_for_it_fails_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = FakeEndpoint()
    slow = Slow(monkeypatch, endpoint)
    slow.service.startService()
    endpoint.asked[0].errback(RuntimeError("trouble"))
    assert _fired(slow.service.when_listening()) == [ListenError]
    slow.service.stopService()
    slow.service.startService()
    waiting = slow.service.when_listening()
    assert not waiting.called
    endpoint.asked[1].callback(FakePort())
    assert len(_fired(waiting)) == 1


def test_the_stop_waits_until_every_listener_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = FakeEndpoint(), FakeEndpoint()
    slow = Slow(monkeypatch, one, other)
    slow.service.startService()
    first, second = FakePort(1, Deferred()), FakePort(2, Deferred())
    one.asked[0].callback(first)
    other.asked[0].callback(second)
    stopped = slow.service.stopService()
    assert first.closing is not None
    assert second.closing is not None
    first.closing.callback(None)
    assert not stopped.called
    with logged() as events:
        second.closing.errback(RuntimeError("stuck"))
    assert stopped.called
    assert [formatEvent(event) for event in events if "reason" in event] == [
        "a listener did not close cleanly: stuck"
    ]


def test_a_datagram_builder_that_raises_is_a_failure_to_start() -> None:
    failures: list[str] = []

    def build() -> DatagramProtocol:
        raise RuntimeError("no more of them")

    service = SocketService(
        None, [UDP_LOOPBACK], datagram=build, name="dry", on_failure=failures.append
    )
    service.startService()
    [line] = failures
    assert line.startswith("dry: cannot start: RuntimeError: no more of them (")


def test_the_reactor_can_be_chosen() -> None:
    class AskedError(Exception):
        pass

    class Other:
        def listenTCP(self, *arguments: object, **named: object) -> None:  # noqa: N802
            raise AskedError("the other one")

    failures: list[str] = []
    service = SocketService(
        Factory.forProtocol(Protocol), listen=["tcp:0"], reactor=Other(), on_failure=failures.append
    )
    service.startService()
    [line] = failures
    assert line.startswith("Factory: cannot listen on tcp:0: AskedError: the other one (")


def test_it_says_that_it_listens_when_the_reactor_runs() -> None:
    """A signal before that would end the process without closing anything."""
    not_yet = MemoryReactor()
    service = SocketService(EchoFactory(), listen=["tcp:7"], reactor=not_yet)
    with logged() as events:
        service.startService()
        assert [each for each in events if "addresses" in each] == []
        not_yet.run()
        assert [each["addresses"] for each in events if "addresses" in each] == ["tcp:0.0.0.0:7"]


@with_reactor
async def test_the_ledger_has_the_figures_of_datagrams(tmp_path: Path) -> None:
    service = SocketService(
        EchoFactory(), [UDP_LOOPBACK, f"unixgram:{tmp_path}/d"], Limits(rate=Rate(3, 60))
    )
    events: list[Event] = []
    service.ledger.subscribe(events.append)
    service.startService()
    address, _path = await service.when_listening()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.bind(("127.0.0.1", 0))
        for data in (b"one", b"two"):
            client.sendto(data, ("127.0.0.1", address.port))
        await until(lambda: service.ledger.totals.datagrams == 2)
        peer = client.getsockname()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
            for _ in range(2):
                other.sendto(b"three", str(tmp_path / "d"))
        await until(lambda: events)
        client.sendto(b"four", ("127.0.0.1", address.port))
        await until(lambda: len(events) == 2)
    await service.stopService()
    totals = service.ledger.totals
    assert (totals.datagrams, totals.bytes_in, totals.bytes_out) == (3, 11, 6)
    assert (totals.opened, totals.refused) == (0, {"rate": 2})
    assert service.ledger._datagram_ports == []
    unix, udp = events
    assert unix == Refused("EchoFactory", f"unixgram:{tmp_path}/d", UNIXAddress(None), "rate")
    assert udp == Refused("EchoFactory", UDP_LOOPBACK, IPv4Address("UDP", *peer), "rate")


@with_reactor
async def test_a_stop_leaves_no_timer_of_tls(tmp_path: Path) -> None:
    make_certificate(tmp_path)
    certificate = TLS(
        tls_cert=str(tmp_path / "trusted/cert.pem"), tls_key=str(tmp_path / "key.pem")
    )
    service = SocketService(EchoFactory(), [LOOPBACK], certificate)
    service.startService()
    [address] = await service.when_listening()
    for _ in range(3):
        endpoint = clientFromString(reactor, f"tcp:127.0.0.1:{address.port}")
        client: Any = await connectProtocol(endpoint, Heard())
        client.transport.write(b"no handshake")
        await client.whole
    silent: Any = await connectProtocol(endpoint, Heard())
    await service.stopService()
    await silent.whole
    ours = [each for each in reactor.getDelayedCalls() if "_check_handshake" in str(each)]
    assert ours == []


@with_reactor
async def test_what_one_service_still_delivers_is_no_others_to_end() -> None:
    message = "x" * 100_000
    closing = SocketService(HelloFactory(message=message), ["tcp:0:interface=127.0.0.1"])
    other = SocketService(EchoFactory(), ["tcp:0:interface=127.0.0.1"])
    for service in (closing, other):
        service.startService()
    [address] = await closing.when_listening()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", address.port))
        client.sendall(b"never read")
        await until(lambda: closing.ledger.totals.closed)
        other.hurry()
        await other.stopService()
        client.sendall(b"more")
        received = bytearray()
        client.setblocking(False)

        def is_over() -> bool:
            with contextlib.suppress(BlockingIOError):
                part = client.recv(1 << 16)
                received.extend(part)
                return not part
            return False

        await until(is_over)
    assert received == message.encode()
    await closing.stopService()
