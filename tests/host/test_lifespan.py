from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet import reactor as _reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import clientFromString, connectProtocol
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from twisted.internet.task import Clock
from twisted.logger import Logger, formatEvent
from twisted.python.failure import Failure
from zope.interface import implementer

from sockservices.errors import ListenError, SettingError
from sockservices.host.host import SocketService
from sockservices.host.lifespan import Life, Lifespan
from sockservices.host.stopping import Stopping
from sockservices.service import IDatagramFactory, ILifespan
from tests.fakes import Heard, logged, result_of, until, with_reactor

reactor: Any = _reactor
LOOPBACK = "tcp:0:interface=127.0.0.1"


class Steps(list[str]):
    """What happened, in its order; what a step does further may be set."""

    def __init__(self) -> None:
        super().__init__()
        self.do: dict[str, Callable[[], object]] = {}

    def take(self, name: str) -> object:
        self.append(name)
        return self.do.get(name, lambda: None)()


class Echoing(Protocol):
    factory: Any
    transport: Any

    def dataReceived(self, data: bytes) -> None:
        # The answer needs something that all connections share.
        self.transport.write(data if self.factory.is_open else b"the pool is closed")


class Shared(Factory):
    """A factory with something that lives from ``startFactory`` to ``stopFactory``."""

    protocol = Echoing
    noisy = False

    def __init__(self, steps: Steps | None = None) -> None:
        self.steps = steps if steps is not None else Steps()
        self.is_open = False

    def startFactory(self) -> None:
        self.is_open = True
        self.steps.append("startFactory")

    def stopFactory(self) -> None:
        self.is_open = False
        self.steps.append("stopFactory")


@implementer(ILifespan)
class Living(Shared):
    def start(self) -> object:
        return self.steps.take("start")

    def reload(self) -> object:
        return self.steps.take("reload")

    def end(self) -> object:
        return self.steps.take("end")


def _life(factory: Any, clock: Clock, timeout: float = 10) -> Life:
    return Life(factory, clock, Logger("life"), lambda: timeout)


# In a host, with real connections


@with_reactor
async def test_the_factory_stops_after_the_last_connection() -> None:
    factory = Shared()
    service = SocketService(factory, [LOOPBACK, LOOPBACK], Stopping(graceful_timeout=30))
    for _again in range(2):
        service.startService()
        [address, _other] = await service.when_listening()
        endpoint = clientFromString(reactor, f"tcp:127.0.0.1:{address.port}")
        client: Any = await connectProtocol(endpoint, Heard())
        await until(lambda: service.ledger.live)
        stopped = service.stopService()
        await until(lambda: not service.addresses)
        client.transport.write(b"the query of one that may finish its work")
        client.transport.loseWriteConnection()
        assert await client.whole == b"the query of one that may finish its work"
        await stopped
        assert not factory.is_open
    assert factory.steps == ["startFactory", "stopFactory"] * 2


@with_reactor
async def test_a_factory_whose_service_cannot_listen_is_stopped() -> None:
    factory = Shared()
    failures: list[str] = []
    service = SocketService(factory, [LOOPBACK, "unix:/dev/null/x"], on_failure=failures.append)
    service.startService()
    await until(lambda: failures)
    await until(lambda: factory.steps == ["startFactory", "stopFactory"])


@pytest.mark.parametrize("as_coroutines", [False, True])
@with_reactor
async def test_it_starts_before_it_listens_and_ends_after_the_last_connection(
    as_coroutines: bool,
) -> None:
    steps = Steps()
    held: dict[str, Deferred[None]] = {name: Deferred() for name in ("start", "end")}

    async def waiting(name: str) -> None:
        await held[name]

    for name in held:
        steps.do[name] = lambda name=name: waiting(name) if as_coroutines else held[name]  # type: ignore[misc]
    service = SocketService(Living(steps), [LOOPBACK], Stopping(graceful_timeout=30))
    listening = service.when_listening()
    service.privilegedStartService()
    service.startService()
    assert (steps, service.addresses) == (["start"], [])
    held["start"].callback(None)
    [address] = await listening
    endpoint = clientFromString(reactor, f"tcp:127.0.0.1:{address.port}")
    client: Any = await connectProtocol(endpoint, Heard())
    await until(lambda: service.ledger.live)
    stopped = service.stopService()
    await until(lambda: not service.addresses)
    client.transport.write(b"last")
    client.transport.loseWriteConnection()
    assert await client.whole == b"last"
    await until(lambda: "end" in steps)
    assert steps == ["start", "startFactory", "stopFactory", "end"]
    ended: list[object] = []
    stopped.addCallback(ended.append)
    assert ended == []
    held["end"].callback(None)
    await until(lambda: ended)


@with_reactor
async def test_a_start_that_fails_is_one_line_and_nothing_listens() -> None:
    steps = Steps()
    failures: list[str] = []

    async def fail() -> None:
        raise ConnectionRefusedError("no database\nat db:5432")

    steps.do["start"] = fail
    service = SocketService(Living(steps), [LOOPBACK], name="db", on_failure=failures.append)
    service.startService()
    [line] = failures
    assert line.startswith("db: cannot start: ConnectionRefusedError: no database (")
    assert "test_lifespan.py:" in line
    with pytest.raises(ListenError, match="cannot start"):
        await service.when_listening()
    await service.stopService()
    assert steps == ["start"]  # it has nothing to end


@with_reactor
async def test_a_stop_cancels_the_start_and_it_can_start_again() -> None:
    steps = Steps()
    steps.do["start"] = Deferred
    service = SocketService(Living(steps), [LOOPBACK], on_failure=pytest.fail)
    listening = service.when_listening()
    service.startService()
    await service.stopService()
    with pytest.raises(CancelledError):
        await listening
    del steps.do["start"]
    service.startService()
    assert len(await service.when_listening()) == 1
    await service.stopService()
    assert steps == ["start", "start", "startFactory", "stopFactory", "end"]


@with_reactor
async def test_a_start_waits_for_the_end_of_the_stop_before_it() -> None:
    steps = Steps()
    ending: Deferred[None] = Deferred()
    steps.do["end"] = lambda: ending
    service = SocketService(Living(steps), [LOOPBACK], on_failure=pytest.fail)
    service.startService()
    stopped = service.stopService()
    await until(lambda: "end" in steps)
    service.startService()
    assert steps[-1] == "end"
    again = service.stopService()  # before it could start
    service.startService()
    ending.callback(None)
    await stopped
    await again
    assert len(await service.when_listening()) == 1
    assert steps[-2:] == ["start", "startFactory"]
    del steps.do["end"]
    await service.stopService()
    assert steps[-2:] == ["stopFactory", "end"]


@with_reactor
async def test_a_second_signal_does_not_wait_for_the_end() -> None:
    steps = Steps()
    steps.do["end"] = Deferred
    service = SocketService(Living(steps), [LOOPBACK])
    service.startService()
    await service.when_listening()
    stopped = service.stopService()
    await until(lambda: "end" in steps)
    service.hurry()
    await stopped
    assert steps.count("end") == 1


@with_reactor
async def test_it_reloads() -> None:
    steps = Steps()
    service = SocketService(Living(steps), [LOOPBACK])
    service.startService()
    waits: Deferred[None] = Deferred()
    steps.do["reload"] = lambda: waits
    with logged() as events:
        reloaded: list[object] = []
        service.reload().addCallback(reloaded.append)
        assert reloaded == []
        waits.callback(None)
    assert reloaded == [None]
    assert [formatEvent(each) for each in events] == ["reloaded: the service"]
    await service.stopService()


def test_reloads_that_wait_are_one(steps: Steps) -> None:
    factory = Living(steps)
    life = _life(factory, Clock())
    life.begin(lambda: [factory])
    first: Deferred[None] = Deferred()
    steps.do["reload"] = lambda: first
    done: list[str] = []
    for name in ("first", "second", "third"):
        life.reload().addCallback(lambda _none, name: done.append(name), name)
    steps.do["reload"] = lambda: None
    assert (steps, done) == (["start", "reload"], [])
    first.callback(None)
    assert (steps, done) == (["start", "reload", "reload"], ["first", "second", "third"])


@with_reactor
async def test_a_stop_does_not_wait_for_a_reload() -> None:
    steps = Steps()
    service = SocketService(Living(steps), [LOOPBACK])
    service.startService()
    steps.do["reload"] = Deferred
    service.reload()
    await service.stopService()
    assert steps[-2:] == ["stopFactory", "end"]


@implementer(ILifespan)
class LivingDatagrams(DatagramProtocol):
    noisy = False
    steps: Steps

    def start(self) -> object:
        return self.steps.take("start")

    def reload(self) -> object:
        return self.steps.take("reload")

    def end(self) -> object:
        return self.steps.take("end")


@with_reactor
async def test_each_datagram_protocol_has_a_life_and_one_object_has_one() -> None:
    steps = Steps()

    class Each(LivingDatagrams):
        pass

    Each.steps = steps

    @implementer(IDatagramFactory)
    class Both(Living):
        def build_datagram_protocol(self) -> DatagramProtocol:
            return Each()

    both = Both(steps)
    service = SocketService(both, [LOOPBACK, "udp:0:interface=127.0.0.1"], datagram=both)
    service.startService()
    await service.when_listening()
    await service.stopService()
    assert steps == ["start", "start", "startFactory", "stopFactory", "end", "end"]


# Its time, on a clock


@pytest.fixture
def steps() -> Steps:
    return Steps()


def test_a_start_that_takes_too_long_is_cancelled(steps: Steps) -> None:
    clock = Clock()
    cancelled: list[object] = []
    steps.do["start"] = lambda: Deferred(cancelled.append)
    factory = Living(steps)
    errors: list[Failure] = []
    _life(factory, clock, timeout=3).begin(lambda: [factory]).addErrback(errors.append)
    clock.advance(2.9)
    assert errors == cancelled == []
    clock.advance(0.1)
    assert len(cancelled) == 1
    assert str(errors[0].value) == "cannot start: it took longer than 3 s (--lifespan-timeout)"
    assert errors[0].check(ListenError)
    assert clock.getDelayedCalls() == []


def test_an_end_that_cannot_be_cancelled_does_not_keep_the_stop(steps: Steps) -> None:
    clock = Clock()

    async def stubborn() -> None:
        while True:
            try:
                await Deferred[None]()
            except CancelledError:
                continue

    steps.do["end"] = stubborn
    factory = Living(steps)
    life = _life(factory, clock, timeout=3)
    life.begin(lambda: [factory])
    assert life.most_to_end == 3
    with logged() as events:
        ended = life.end()
        clock.advance(3)
    assert result_of(ended) == [None]
    assert formatEvent(events[-1]) == (
        "the service did not end: it took longer than 3 s (--lifespan-timeout)"
    )
    assert life.most_to_end == 0


def test_what_started_is_ended_if_another_cannot_start() -> None:
    first, second = Living(Steps()), Living(Steps())

    def fail() -> None:
        raise SettingError("no such key")

    second.steps.do["start"] = fail
    life = _life(first, Clock())
    errors: list[str] = []
    life.begin(lambda: [first, second]).addErrback(
        lambda failure: errors.append(failure.getErrorMessage())
    )
    assert errors == ["cannot start: no such key"]
    assert (first.steps, second.steps) == (["start", "end"], ["start"])


def test_a_start_that_cancels_itself_is_a_failure(steps: Steps) -> None:
    clock = Clock()

    async def connect() -> None:
        attempt: Deferred[None] = Deferred()
        clock.callLater(1, attempt.cancel)
        await attempt

    steps.do["start"] = steps.do["reload"] = connect
    factory = Living(steps)
    life = _life(factory, clock)
    errors: list[Failure] = []
    life.begin(lambda: [factory]).addErrback(errors.append)
    clock.advance(1)
    [failure] = errors
    assert failure.check(ListenError)
    expected = r"cannot start: CancelledError \(.*test_lifespan\.py:\d+\)"
    assert re.fullmatch(expected, str(failure.value))
    del steps.do["start"]
    life.begin(lambda: [factory])
    with logged() as events:
        reloaded = life.reload()
        clock.advance(1)
    assert result_of(reloaded) == [None]
    assert formatEvent(events[-1]).startswith("not reloaded: CancelledError (")


def test_what_started_has_time_to_end_while_another_starts_and_while_it_ends() -> None:
    first, second = Living(Steps()), Living(Steps())
    ending: Deferred[None] = Deferred()
    first.steps.do["end"] = lambda: ending
    second.steps.do["start"] = Deferred
    life = _life(first, Clock(), timeout=3)
    errors: list[Failure] = []
    life.begin(lambda: [first, second]).addErrback(errors.append)
    assert life.most_to_end == 3
    life.interrupt()
    assert first.steps == ["start", "end"]
    assert life.most_to_end == 3
    ending.callback(None)
    assert life.most_to_end == 0
    assert [each.type for each in errors] == [CancelledError]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (SettingError("no such key"), "not reloaded: no such key"),
        (ZeroDivisionError("ours"), "the service could not reload"),
        (SystemExit(3), "the service could not reload"),
    ],
)
def test_a_reload_that_fails_changes_nothing(steps: Steps, error: BaseException, line: str) -> None:
    def fail() -> None:
        raise error

    steps.do["reload"] = fail
    factory = Living(steps)
    life = _life(factory, Clock())
    life.begin(lambda: [factory])
    with logged() as events:
        assert result_of(life.reload()) == [None]
        assert result_of(life.reload()) == [None]
    assert [formatEvent(each) for each in events] == [line, line]


def test_sys_exit_fails_a_start_like_any_other_error_and_keeps_no_end() -> None:
    first, second = Living(Steps()), Living(Steps())

    def leave() -> None:
        sys.exit("no database")

    first.steps.do["end"] = second.steps.do["start"] = leave
    life = _life(first, Clock())
    errors: list[Failure] = []
    with logged() as events:
        life.begin(lambda: [first, second]).addErrback(errors.append)
    assert str(errors[0].value).startswith("cannot start: SystemExit: no database (")
    assert [formatEvent(each) for each in events] == ["the service could not end"]
    assert result_of(life.end()) == [None]


def test_what_fails_at_the_end_does_not_keep_the_rest(steps: Steps) -> None:
    class Failing(Living):
        def stopFactory(self) -> None:
            raise ZeroDivisionError

    def fail() -> None:
        raise ZeroDivisionError

    steps.do["end"] = fail
    factory = Failing(steps)
    life = _life(factory, Clock())
    life.begin(lambda: [factory])
    life.hold()
    with logged() as events:
        assert result_of(life.end()) == [None]
    assert [formatEvent(each) for each in events] == [
        "the factory could not stop",
        "the service could not end",
    ]


def test_it_needs_some_time() -> None:
    with pytest.raises(SettingError, match="lifespan_timeout"):
        Lifespan(lifespan_timeout=0)
