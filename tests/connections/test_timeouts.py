from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from sockservices.connections import timeouts as module
from sockservices.connections.ledger import Ledger
from sockservices.connections.timeouts import RunningTimeouts, Timeouts
from sockservices.errors import SettingError
from sockservices.timer import cancel
from tests.fakes import context, logged, opened


class Transport(StringTransport):
    bytes_in = 0
    bytes_out = 0
    taken = 0
    waits_for_us = False
    reset = 0

    def abortConnection(self) -> None:  # noqa: N802 - as ITCPTransport calls it
        self.reset += 1


class Setup:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = Clock()
        monkeypatch.setattr(module, "monotonic", self.clock.seconds)
        self.ledger = Ledger("echo")
        self.context = context(self.ledger, self.clock)

    def connection(self) -> Transport:
        transport = Transport()  # type: ignore[no-untyped-call]
        opened(self.ledger, transport, object()).opened = self.clock.seconds()
        return transport

    def begin(self, **settings: Any) -> RunningTimeouts:
        timeouts = Timeouts(**settings).begin(self.context)
        timeouts.start()
        return timeouts

    def pass_by(self, seconds: float) -> None:
        self.clock.pump([0.01] * round(seconds * 100))


@pytest.fixture
def setup(monkeypatch: pytest.MonkeyPatch) -> Setup:
    return Setup(monkeypatch)


def test_one_that_is_silent_is_closed_and_one_that_speaks_is_not(setup: Setup) -> None:
    timeouts = setup.begin(idle_timeout=2.0, max_time=None)
    silent, speaking = setup.connection(), setup.connection()
    setup.pass_by(1.5)
    speaking.bytes_in += 1
    setup.pass_by(0.4)
    assert not silent.disconnecting
    setup.pass_by(0.4)
    assert silent.disconnecting
    assert not speaking.disconnecting
    assert setup.ledger.of(silent).cut == "idle-timeout"
    setup.ledger.close(silent, Failure(ConnectionDone()))
    assert setup.ledger.totals.closed == {"idle-timeout": 1}
    timeouts.stop()


def test_who_does_not_take_the_rest_is_reset(setup: Setup) -> None:
    timeouts = setup.begin(idle_timeout=1.0)
    stuck = setup.connection()
    setup.pass_by(1.2)
    assert (stuck.disconnecting, stuck.reset) == (True, 0)
    setup.pass_by(1.7)
    assert stuck.reset == 0
    setup.pass_by(0.3)
    assert stuck.reset == 1
    setup.pass_by(5.0)  # once is enough
    assert stuck.reset == 1
    assert setup.ledger.of(stuck).cut == "idle-timeout"
    timeouts.stop()
    assert setup.clock.getDelayedCalls() == []


def test_one_that_is_closing_can_be_reset_at_once(setup: Setup) -> None:
    setup.begin(idle_timeout=1.0)
    stuck = setup.connection()
    setup.pass_by(1.2)
    setup.ledger.of(stuck).end("max-write-buffer")
    assert stuck.reset == 1
    assert setup.ledger.of(stuck).cut == "idle-timeout"


def test_its_producer_is_stopped_and_does_not_delay_the_end(setup: Setup) -> None:
    class Producer:
        stopped = 0

        def stopProducing(self) -> None:
            self.stopped += 1

    setup.begin(max_time=1.0)
    transport, producer = setup.connection(), Producer()
    transport.registerProducer(producer, True)  # type: ignore[no-untyped-call]
    setup.pass_by(1.2)
    assert (transport.producer, transport.disconnecting, producer.stopped) == (None, True, 1)


def test_one_that_takes_is_not_idle(setup: Setup) -> None:
    setup.begin(idle_timeout=2.0)
    taking, stalled = setup.connection(), setup.connection()
    for _ in range(30):
        setup.pass_by(0.1)
        taking.bytes_out = 5_000_000  # all at once, to the kernel
        taking.taken += 1000
        stalled.bytes_out += 1000
    assert not taking.disconnecting
    assert stalled.disconnecting
    setup.pass_by(1.9)
    assert not taking.disconnecting
    setup.pass_by(0.4)
    assert taking.disconnecting


def test_one_that_waits_for_us_is_not_idle(setup: Setup) -> None:
    setup.begin(idle_timeout=2.0)
    waiting = setup.connection()
    waiting.waits_for_us = True
    setup.pass_by(7.0)
    waiting.waits_for_us = False
    assert not waiting.disconnecting
    setup.pass_by(2.3)
    assert waiting.disconnecting


def test_a_pause_of_the_process_is_no_idleness(setup: Setup) -> None:
    setup.begin(idle_timeout=2.0)
    silent = setup.connection()
    setup.pass_by(1.0)
    setup.clock.advance(60.0)
    assert not silent.disconnecting
    setup.pass_by(0.8)
    assert not silent.disconnecting
    setup.pass_by(0.4)
    assert silent.disconnecting


def test_a_pause_of_the_process_counts_for_the_longest_time(setup: Setup) -> None:
    setup.begin(max_time=2.0)
    old = setup.connection()
    setup.clock.advance(60.0)
    assert setup.ledger.of(old).cut == "max-time"


def test_one_that_lasts_is_closed_though_it_speaks(setup: Setup) -> None:
    timeouts = setup.begin(idle_timeout=100.0, max_time=2.0)
    timeouts.start()
    dribbling = setup.connection()
    for _ in range(19):
        setup.pass_by(0.1)
        dribbling.bytes_in += 1
    assert not dribbling.disconnecting
    setup.pass_by(0.4)
    assert dribbling.disconnecting
    assert setup.ledger.of(dribbling).cut == "max-time"
    timeouts.stop()


def test_without_times_nothing_is_looked_at(setup: Setup) -> None:
    timeouts: Any = Timeouts(idle_timeout=None, max_time=None).begin(setup.context)
    timeouts.start()
    assert setup.clock.getDelayedCalls() == []
    timeouts.stop()


def test_one_that_cannot_be_closed_keeps_no_other_from_it(setup: Setup) -> None:
    class Immortal(Transport):
        def loseConnection(self) -> None:
            raise RuntimeError("no")

    timeouts = setup.begin(idle_timeout=None, max_time=1.0)
    immortal = Immortal()  # type: ignore[no-untyped-call]
    opened(setup.ledger, immortal, object()).opened = 0.0
    other = setup.connection()
    with logged() as log:
        setup.pass_by(1.2)
    assert other.disconnecting
    assert [event["log_failure"].type for event in log] == [RuntimeError]
    setup.pass_by(2.0)
    assert immortal.reset == 1
    timeouts.stop()


def test_a_transport_that_knows_only_the_slower_way_goes_it(setup: Setup) -> None:
    class Slow:
        lost = 0

        def loseConnection(self) -> None:
            self.lost += 1

    slow = Slow()
    opened(setup.ledger, slow, object()).end("max-time")
    assert slow.lost == 1


def test_other_times_hold_at_once_for_those_that_live(setup: Setup) -> None:
    timeouts = setup.begin(idle_timeout=100.0)
    silent = setup.connection()
    setup.pass_by(1.0)
    timeouts.change(Timeouts(idle_timeout=2.0))()
    setup.pass_by(0.9)
    assert not silent.disconnecting
    setup.pass_by(0.4)
    assert silent.disconnecting
    cancel(setup.ledger.of(silent).deadline)
    setup.ledger.close(silent, Failure(ConnectionDone()))
    timeouts.change(Timeouts())()
    assert setup.clock.getDelayedCalls() == []
    timeouts.change(Timeouts(max_time=1.0))()
    timeouts.stop()
    timeouts.change(Timeouts(max_time=2.0))()
    assert setup.clock.getDelayedCalls() == []


def test_one_that_waits_too_long_is_closed_unless_it_is_done(setup: Setup) -> None:
    timeouts = Timeouts(handshake_timeout=2.0).begin(setup.context)
    assert timeouts.waiting is not None
    done, waiting = setup.connection(), setup.connection()
    timeouts.waiting(setup.ledger.of(done), lambda: True)
    timeouts.waiting(setup.ledger.of(waiting), lambda: False)
    setup.pass_by(1.9)
    assert not waiting.disconnecting
    setup.pass_by(0.2)
    assert (done.disconnecting, waiting.disconnecting) == (False, True)
    assert setup.ledger.of(waiting).cut == "handshake-timeout"


@pytest.mark.parametrize("before", [0.0, 1.0, 1.95])
def test_a_handshake_gets_the_time_of_a_pause_back(setup: Setup, before: float) -> None:
    timeouts = Timeouts(handshake_timeout=2.0).begin(setup.context)
    assert timeouts.waiting is not None
    waiting = setup.connection()
    timeouts.waiting(setup.ledger.of(waiting), lambda: False)
    setup.pass_by(before)
    setup.clock.advance(60.0)
    assert not waiting.disconnecting
    setup.pass_by(max(0.15, 1.75 - before))  # a part of 0.2 s is gone with the pause
    assert not waiting.disconnecting
    setup.pass_by(0.3)
    assert waiting.disconnecting


def test_a_process_that_is_held_up_all_the_time_ends_a_handshake_all_the_same(
    setup: Setup,
) -> None:
    timeouts = Timeouts(handshake_timeout=2.0).begin(setup.context)
    assert timeouts.waiting is not None
    waiting = setup.connection()
    timeouts.waiting(setup.ledger.of(waiting), lambda: False)
    for _ in range(11):
        assert not waiting.disconnecting
        setup.clock.advance(1.0)
    assert waiting.disconnecting


# Keepalive


@contextmanager
def _tcp(setup: Setup) -> Iterator[Any]:
    """Enter a connection in the ledger; yields its socket."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_connection(server.getsockname()) as theirs:
            ours, _address = server.accept()
            transport: Any = setup.connection()
            transport.getHandle = lambda: ours
            with ours, theirs:
                yield transport, ours


def _kept_alive(of: socket.socket) -> list[int]:
    names = (
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT),
    )
    return [of.getsockopt(*name) for name in names]


def test_a_tcp_connection_is_kept_alive_when_it_is_opened(setup: Setup) -> None:
    timeouts = Timeouts(tcp_keepalive=7).begin(setup.context)
    with _tcp(setup) as (transport, ours):
        assert _kept_alive(ours)[0] == 0
        assert timeouts.opened is not None
        timeouts.opened(setup.ledger.of(transport), IPv4Address("TCP", "127.0.0.1", 1))
        assert _kept_alive(ours) == [1, 7, 7, 3]


def test_keepalive_changes_for_those_that_live(setup: Setup) -> None:
    timeouts = Timeouts().begin(setup.context)
    assert timeouts.opened is None
    with _tcp(setup) as (_transport, ours):
        timeouts.change(Timeouts(tcp_keepalive=9))()
        assert _kept_alive(ours) == [1, 9, 9, 3]
        timeouts.change(Timeouts(tcp_keepalive=9, tcp_keepalive_interval=2))()
        assert _kept_alive(ours) == [1, 9, 2, 3]
        timeouts.change(Timeouts(tcp_keepalive=9, tcp_keepalive_probes=127))()
        assert _kept_alive(ours) == [1, 9, 9, 127]
        timeouts.change(Timeouts())()
        assert _kept_alive(ours)[0] == 0


@pytest.mark.parametrize("more", [{"tcp_keepalive_interval": 5}, {"tcp_keepalive_probes": 5}])
def test_probes_need_keepalive(more: dict[str, int]) -> None:
    with pytest.raises(SettingError, match=r"^tcp_keepalive_\w+ goes with tcp_keepalive$"):
        Timeouts(**more)
    Timeouts(tcp_keepalive=7, **more)


def test_what_is_not_tcp_or_has_ended_is_left_alone(setup: Setup) -> None:
    transport: Any = setup.connection()
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    transport.getHandle = lambda: ours
    ended: Any = setup.connection()
    gone = socket.socket()
    gone.close()
    ended.getHandle = lambda: gone
    setup.connection()  # which has no socket at all
    with ours, theirs:
        timeouts = Timeouts().begin(setup.context)
        timeouts.change(Timeouts(tcp_keepalive=9))()
        assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0
