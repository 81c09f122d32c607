"""The reactor is the test's: what it does while the command runs is what the network does."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import pytest
import twisted.internet
from twisted.internet import error as errors
from twisted.internet import stdio
from twisted.internet.error import ConnectError, ConnectionDone, ConnectionLost
from twisted.internet.protocol import connectionDone
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure

from sockservices.cli.connect import connect
from tests.cli.running import run

WHERE = "tcp:127.0.0.1:7"


class Reactor(MemoryReactorClock):
    """Runs what the test wants to happen."""

    def __init__(self, happens: Callable[[Reactor], object]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._happens = happens
        self.stops = 0

    def run(self) -> None:
        self._happens(self)
        assert self.stops == 1, "the command would never end"
        assert self.getDelayedCalls() == []

    def stop(self) -> None:
        self.stops += 1

    @property
    def factory(self) -> Any:
        """What wants to connect."""
        [(host, port, factory, *_)] = self.tcpClients
        assert (host, port) == ("127.0.0.1", 7)
        return factory

    def fail(self, reason: Exception) -> None:
        self.factory.clientConnectionFailed(None, Failure(reason))


class Transport(StringTransport):
    """A connection to a peer, or standard input and output; remembers how it was ended."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.ended: list[str] = []

    def loseConnection(self) -> None:
        self.ended.append("closed")

    def abortConnection(self) -> None:  # noqa: N802 - as ITCPTransport calls it
        self.ended.append("aborted")

    def loseWriteConnection(self) -> None:  # noqa: N802 - as ITCPTransport calls it
        self.ended.append("half-closed")


class Session:
    """A connection that is made: ``peer`` and ``here`` are its ends as the command sees them."""

    def __init__(self, reactor: Reactor, standard: list[Any]) -> None:
        self.reactor = reactor
        self.transport: Any = Transport()
        self.protocol: Any = reactor.factory.buildProtocol(None)
        self.protocol.makeConnection(self.transport)
        self.here: Any
        self.standard: Any
        [(self.here, self.standard)] = standard

    def peer_ends(self, reason: Exception | None = None) -> None:
        self.protocol.connectionLost(Failure(reason) if reason else connectionDone)

    def output_is_written(self) -> None:
        self.here.connectionLost(connectionDone)


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    """Return what runs the command while something happens."""
    opened: list[tuple[Any, Transport]] = []

    def open_standard(protocol: Any) -> None:
        opened.append((protocol, Transport()))
        protocol.makeConnection(opened[-1][1])

    def connected(
        happens: Callable[[Any], object], *arguments: str, makes: bool = True
    ) -> tuple[int, str, str]:
        def happen(reactor: Reactor) -> None:
            happens(Session(reactor, opened) if makes else reactor)

        monkeypatch.setattr(twisted.internet, "reactor", Reactor(happen), raising=False)
        return run(connect, *(arguments or [WHERE]))

    class Log:
        def beginLoggingTo(self, observers: list[Any], redirectStandardIO: bool) -> None:  # noqa: N802, N803
            assert (observers, redirectStandardIO) == ([], False)

    monkeypatch.setattr("sockservices.cli.connect.globalLogBeginner", Log())
    monkeypatch.setattr(stdio, "StandardIO", open_standard)
    return connected


Connected = Callable[..., tuple[int, str, str]]


def test_what_is_typed_goes_to_the_peer_and_the_peer_to_the_output(connected: Connected) -> None:
    def happens(session: Session) -> None:
        session.here.dataReceived(b"typed")
        assert session.transport.value() == b"typed"
        session.protocol.dataReceived(b"answered")
        assert session.standard.value() == b"answered"
        session.peer_ends()
        assert session.reactor.stops == 0  # what was answered is yet to be written
        assert session.standard.ended == ["closed"]
        session.output_is_written()

    assert connected(happens) == (0, "", "")


def test_at_the_end_of_input_the_answer_is_still_waited_for(connected: Connected) -> None:
    def happens(session: Session) -> None:
        session.here.readConnectionLost()
        assert session.transport.ended == ["half-closed"]
        session.protocol.dataReceived(b"answered")
        assert session.standard.value() == b"answered"
        session.peer_ends()
        session.output_is_written()

    assert connected(happens) == (0, "", "")


def test_a_peer_that_ends_its_side_is_sent_no_more(connected: Connected) -> None:
    def happens(session: Session) -> None:
        session.protocol.readConnectionLost()
        assert session.transport.ended == ["closed"]
        session.peer_ends()
        session.here.readConnectionLost()
        assert session.transport.ended == ["closed"]
        session.output_is_written()

    assert connected(happens) == (0, "", "")


def test_each_side_that_is_full_pauses_the_other(connected: Connected) -> None:
    def happens(session: Session) -> None:
        assert session.transport.producer is session.standard
        assert session.standard.producer is session.transport
        session.peer_ends()
        assert session.standard.producer is None
        session.output_is_written()

    assert connected(happens)[0] == 0


@pytest.mark.parametrize("end", ["writeConnectionLost", "connectionLost"])
def test_an_output_that_takes_no_more_ends_it(connected: Connected, end: str) -> None:
    def happens(session: Session) -> None:
        getattr(session.here, end)(*[connectionDone] * (end == "connectionLost"))
        assert session.transport.ended == ["aborted"]
        session.peer_ends(ConnectionLost())

    status, printed, said = connected(happens)
    assert (status, printed) == (1, "")
    assert "output" in said


def test_a_connection_that_breaks_is_told_after_what_has_come(connected: Connected) -> None:
    def happens(session: Session) -> None:
        session.protocol.dataReceived(b"half")
        session.peer_ends(ConnectionLost("it broke"))
        assert session.standard.value() == b"half"
        session.output_is_written()

    status, _printed, said = connected(happens)
    assert status == 1
    assert "it broke" in said


@pytest.mark.parametrize(
    ("reason", "line"),
    [
        (errors.ConnectionRefusedError(errno.ECONNREFUSED), "Connection refused"),
        (ConnectError(errno.EHOSTUNREACH), "No route to host"),
        (ValueError("no results\nfor it \x1b"), r"no results for it \x1b"),
        (OSError(errno.EACCES, "Permission denied"), "Permission denied"),
        (ValueError([("SSL", "a function", "wrong version")]), "wrong version"),
        (ValueError(), "ValueError"),
    ],
)
def test_why_it_cannot_connect_is_one_line(
    connected: Connected, reason: Exception, line: str
) -> None:
    status, printed, said = connected(lambda reactor: reactor.fail(reason), makes=False)
    assert (status, printed) == (1, "")
    assert WHERE in said
    assert line in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(("arguments", "seconds"), [([], 30), (["--timeout=0.5"], 0.5)])
def test_it_is_given_up_after_the_time_that_is_given(
    connected: Connected, arguments: list[str], seconds: float
) -> None:
    def happens(reactor: Reactor) -> None:
        reactor.advance(seconds * 0.9)
        assert reactor.stops == 0
        reactor.advance(seconds * 0.1)

    status, _printed, said = connected(happens, WHERE, *arguments, makes=False)
    assert status == 1
    assert f"{seconds:g} s" in said


def test_a_connection_that_is_made_has_all_the_time(connected: Connected) -> None:
    def happens(session: Session) -> None:
        session.reactor.advance(3600)
        assert session.transport.ended == []
        session.peer_ends(ConnectionDone())
        session.output_is_written()

    assert connected(happens, WHERE, "--timeout=1") == (0, "", "")


@pytest.mark.parametrize(
    "description",
    [
        *("", "tcp", "tcp:", "tcp:127.0.0.1:port", "nothing:7", "tcp:127.0.0.1:7:x=y"),
        *(f"unix:/{'x' * 200}", f"tcp:{'x' * 64}:7", "unix:abstract=", "unix:abstract=x:mode=7"),
    ],
)
def test_what_is_no_description_is_a_usage_error(connected: Connected, description: str) -> None:
    def never(_reactor: Reactor) -> None:
        raise AssertionError("it runs")

    status, printed, said = connected(never, description, makes=False)
    assert (status, printed) == (2, "")
    assert "DESCRIPTION" in said


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "soon"])
def test_a_time_that_cannot_be_is_a_usage_error(connected: Connected, seconds: str) -> None:
    status, _printed, said = connected(print, WHERE, f"--timeout={seconds}", makes=False)
    assert status == 2
    assert "--timeout" in said
