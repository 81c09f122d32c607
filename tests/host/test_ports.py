from __future__ import annotations

import errno
from typing import Any, Literal

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import Logger, formatEvent
from twisted.python.failure import Failure

from sockservices.connections.ledger import Ledger
from sockservices.host.ports import Exhaustion, Ports
from sockservices.listening import DatagramListener, Listener, StreamListener
from sockservices.log_limit import LogLimit
from sockservices.transports.hosted_port import ForeignPort, HostedPort
from sockservices.transports.stock_streams import TCPPort
from tests.fakes import ManualReactor, logged, opened, result_of


class Port:
    """A port of a foreign kind, which remembers what it was told."""

    def __init__(self, number: int = 7) -> None:
        self.told: list[str] = []
        self.number = number

    def startReading(self) -> None:  # noqa: N802 - as IReadDescriptor's ports call it
        self.told.append("start")

    def stopReading(self) -> None:  # noqa: N802 - as IReadDescriptor's ports call it
        self.told.append("stop")

    def stopListening(self) -> Deferred[None]:
        self.told.append("close")
        return succeed(None)

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", self.number)


class Simple:
    """One that does not know how to wait."""

    def stopListening(self) -> None: ...

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", 1)


class Endpoint:
    def __init__(self, port: Any) -> None:
        self.port = port

    def listen(self, _factory: object) -> Deferred[Any]:
        return succeed(self.port)


def _ports(*ports: Any) -> Ports:
    listeners = [StreamListener("tcp:7", Endpoint(each)) for each in ports]
    return Ports(listeners, Logger("test"))


def _listening(*ports: Any) -> Ports:
    made = _ports(*ports)
    assert result_of(made.listen(lambda _number: Factory(), lambda _number, _port: None)) == [None]
    return made


def test_they_accept_when_the_last_reason_is_gone() -> None:
    port = Port()
    ports = _listening(port)
    assert port.told == []
    ports.pause("full", streams_alone=True)
    ports.pause("suspended")
    ports.pause("full", streams_alone=True)
    assert port.told == ["stop"]
    ports.resume("full")
    ports.resume("full")
    assert (port.told, ports.is_paused_for("suspended")) == (["stop"], True)
    ports.resume("suspended")
    assert (port.told, ports.is_paused_for("suspended")) == (["stop", "start"], False)


def test_a_port_that_comes_late_waits_too() -> None:
    port = Port()
    ports = _ports(port)
    ports.pause("full")
    ports.listen(lambda _number: Factory(), lambda _number, _port: None)
    assert port.told == ["stop"]
    ports.resume("full")
    assert port.told == ["stop", "start"]


def test_one_that_has_closed_is_left_alone() -> None:
    port = Port()
    ports = _listening(port)
    ports.pause("full")
    ports.close()
    ports.resume("full")
    assert port.told == ["stop", "close"]


def test_a_port_that_does_not_know_how_keeps_no_other_from_it() -> None:
    port = Port()
    ports = _listening(Simple(), port)
    ports.pause("full")
    ports.resume("full")
    assert port.told == ["stop", "start"]


def test_who_serves_is_asked_by_number_and_told_of_the_port() -> None:
    told: list[Any] = []
    first, second = Port(1), Port(2)
    ports = _ports(first, second)
    ports.listen(told.append, lambda number, port: told.append((number, port.port)))
    assert told == [0, (0, first), 1, (1, second)]
    assert ports.descriptions == ["tcp:127.0.0.1:1", "tcp:127.0.0.1:2"]
    assert ports.are_wanted
    assert result_of(ports.finish(1, 1)) == [None]
    assert (ports.are_wanted, ports.open, ports.finishing) == (False, [], [])


class Finishing(HostedPort):
    """A port that remembers for how long it may serve what the kernel has queued."""

    def __init__(self, kind: Literal["stream", "datagram"]) -> None:
        self.kind = kind
        self.given: list[float] = []

    def finish(self, seconds: float) -> Deferred[None]:
        self.given.append(seconds)
        return succeed(None)


def test_connections_and_datagrams_have_their_own_time_to_finish() -> None:
    streams, datagrams = Finishing("stream"), Finishing("datagram")
    listeners: list[Listener] = [
        StreamListener("tcp:7", Endpoint(streams)),
        DatagramListener("udp:7", Endpoint(datagrams)),
    ]
    ports = Ports(listeners, Logger("test"))
    ports.listen(lambda _number: Factory(), lambda _number, _port: None)
    assert result_of(ports.finish(accept_for=3, send_for=2)) == [None]
    assert (streams.given, datagrams.given) == ([3], [2])


# Without file descriptors

_FULL = OSError(errno.EMFILE, "Too many open files")


def _exhaustion(ports: Ports, ledger: Ledger, clock: Clock, logs: Clock) -> Exhaustion:
    log = Logger("echo")
    return Exhaustion(ports, ledger, clock, log, LogLimit(log, logs))


class Setup:
    def __init__(self) -> None:
        self.clock = Clock()
        self.logs = Clock()  # of what is told
        self.ledger = Ledger("echo")
        self.reactor = ManualReactor()
        self.port: Any = TCPPort(0, Factory(), reactor=self.reactor)
        self.ports = _listening(self.port)
        self.exhaustion = _exhaustion(self.ports, self.ledger, self.clock, self.logs)
        self.port.startReading()
        self.exhaustion.watch(self.port)

    @property
    def accepts(self) -> bool:
        return self.port in self.reactor.readers


@pytest.fixture
def setup() -> Setup:
    return Setup()


def test_new_connections_wait_and_it_is_tried_again(setup: Setup) -> None:
    setup.port.on_exhausted(_FULL)
    assert not setup.accepts
    setup.clock.advance(0.4)
    assert not setup.accepts
    setup.clock.advance(0.1)
    assert setup.accepts


def test_an_end_makes_room_at_once(setup: Setup) -> None:
    transport = StringTransport()
    opened(setup.ledger, transport, object())
    setup.port.on_exhausted(_FULL)
    setup.ledger.close(transport, Failure(ConnectionDone()))
    assert setup.accepts
    assert setup.clock.getDelayedCalls() == []


def test_it_is_told_once_a_minute(setup: Setup) -> None:
    with logged() as log:
        for _ in range(100):
            setup.port.on_exhausted(_FULL)
            setup.clock.advance(0.5)
            setup.logs.advance(0.5)
        assert [formatEvent(event) for event in log] == [
            "new connections wait: Too many open files, with 0 live connections"
        ]
        setup.logs.advance(60)
        setup.port.on_exhausted(_FULL)
        assert formatEvent(log[1]) == "new connections wait: 99 more in 60 s"
        assert len(log) == 3


def test_a_stop_tries_no_more(setup: Setup) -> None:
    setup.port.on_exhausted(_FULL)
    setup.exhaustion.stop()
    assert setup.clock.getDelayedCalls() == []
    setup.exhaustion.stop()


def test_a_port_of_a_foreign_kind_is_left_alone(setup: Setup) -> None:
    setup.exhaustion.watch(ForeignPort(Port(), "stream"))


def test_datagrams_come_although_streams_wait() -> None:
    streams, datagrams = Port(1), Port(2)
    listeners: list[Listener] = [
        StreamListener("tcp:7", Endpoint(streams)),
        DatagramListener("udp:7", Endpoint(datagrams)),
    ]
    ports = Ports(listeners, Logger("test"))
    ports.listen(lambda _number: Factory(), lambda _number, _port: None)
    exhaustion = _exhaustion(ports, Ledger("echo"), Clock(), Clock())
    watched: Any = ports.open[0]
    exhaustion.watch(watched)
    watched.on_exhausted(_FULL)
    assert (streams.told, datagrams.told) == (["stop"], [])
    ports.pause("suspended")
    assert (streams.told, datagrams.told) == (["stop"], ["stop"])
    ports.resume("suspended")
    exhaustion.stop()
    assert (streams.told, datagrams.told) == (["stop"], ["stop", "start"])
