from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import LogEvent, Logger, formatEvent
from twisted.python.failure import Failure

from sockservices.connections.ledger import REASONS, Ledger
from sockservices.connections.reports import Reports
from tests.fakes import logged, opened

_PEER = IPv4Address("TCP", "192.0.2.1", 4000)


class Setup:
    def __init__(self, events: list[LogEvent]) -> None:
        self._events = events
        self.clock = Clock()
        self.ledger = Ledger("echo")
        self.reports = Reports(Logger("echo"), self.ledger, self.clock)

    @property
    def said(self) -> list[str]:
        return [formatEvent(each) for each in self._events]

    def connection(self) -> tuple[Any, Any]:
        transport: Any = StringTransport(peerAddress=_PEER)
        return transport, opened(self.ledger, transport, object())


@pytest.fixture
def setup() -> Iterator[Setup]:
    with logged() as events:
        yield Setup(events)


def test_a_refusal_is_told_with_peer_and_reason(setup: Setup) -> None:
    setup.ledger.refuse("tcp:7", _PEER, "denied")
    setup.ledger.refuse("unix:/s", UNIXAddress(b"\0\x1b[2J\n"), "user", "it is nobody's")
    assert setup.said == [
        f"refused 192.0.2.1, port 4000 on tcp:7: denied: {REASONS['denied']}",
        r"refused abstract=\x1b[2J\n on unix:/s: user: it is nobody's",
    ]


def test_a_cut_is_told_and_an_end_by_the_peer_is_not(setup: Setup) -> None:
    for reason in (None, "idle-timeout"):
        transport, connection = setup.connection()
        if reason is not None:
            connection.end(reason)
        setup.ledger.close(transport, Failure(ConnectionAborted()))
    transport, connection = setup.connection()
    connection.detail = "it speaks HTTP"
    setup.ledger.close(transport, Failure(ConnectionDone()), "handshake")
    assert setup.said == [
        f"closed 192.0.2.1, port 4000 on tcp:7: idle-timeout: {REASONS['idle-timeout']}",
        "closed 192.0.2.1, port 4000 on tcp:7: handshake: it speaks HTTP",
    ]
    assert setup.ledger.totals.closed == {"aborted": 1, "idle-timeout": 1, "handshake": 1}


def test_one_that_never_reached_the_service_is_refused(setup: Setup) -> None:
    transport: Any = StringTransport(peerAddress=_PEER)
    setup.ledger.enter("tcp:7", transport).detail = "it begins with b'GET /'"
    setup.ledger.close(transport, Failure(ConnectionDone()))
    assert setup.said == [
        "refused 192.0.2.1, port 4000 on tcp:7: proxy-header: it begins with b'GET /'"
    ]


def test_of_a_flood_some_are_told_and_the_number_of_the_others_every_second(setup: Setup) -> None:
    for _ in range(1000):
        setup.ledger.refuse("tcp:7", _PEER, "rate")
    setup.ledger.refuse("tcp:7", _PEER, "denied")
    assert len(setup.said) == 3 + 1
    setup.clock.advance(1)
    assert setup.said[4:] == ["rate: 997 more in 1 s"]
    setup.ledger.refuse("tcp:7", _PEER, "rate")
    assert setup.said[5:] == [f"refused 192.0.2.1, port 4000 on tcp:7: rate: {REASONS['rate']}"]


def test_at_its_end_it_says_the_rest_and_the_totals(setup: Setup) -> None:
    for _ in range(5):
        setup.ledger.refuse("tcp:7", _PEER, "rate")
    setup.reports.end()
    assert setup.said[3:] == ["rate: 2 more in 1 s", "since the start: refused: rate 5"]
    assert setup.clock.getDelayedCalls() == []


class Port:
    datagrams_received, datagrams_truncated = 7, 1
    datagrams_dropped, datagrams_unanswered, dropped_by_kernel = 2, 3, 4
    bytes_in = bytes_out = 100


def test_the_totals_are_those_of_the_ledger_by_reason(setup: Setup) -> None:
    setup.reports.tell_totals()
    for reason in ("max-time", "denied", "max-time"):
        transport, connection = setup.connection()
        connection.end(reason)
        setup.ledger.close(transport, Failure(ConnectionAborted()))
    setup.connection()
    setup.ledger.refuse("tcp:7", _PEER, "rate")
    setup.ledger.refuse("tcp:7", _PEER, "denied")
    setup.ledger.refuse("tcp:7", _PEER, "rate")
    setup.reports.tell_totals()
    setup.ledger.add_port(Port())
    setup.reports.tell_totals()
    setup.ledger.survive()
    setup.reports.tell_totals()
    totals = [each for each in setup.said if each.startswith("since")]
    streams = "connections 4; ended: denied 1, max-time 2"
    datagrams = "datagrams 7, truncated 1, unsent 2, unanswered 3, dropped by the kernel 4"
    refused = "refused: denied 1, rate 2"
    assert totals == [
        "since the start: nothing",
        f"since the start: {streams}; {refused}",
        f"since the start: {streams}; {datagrams}; {refused}",
        f"since the start: {streams}; {datagrams}; {refused}; socket errors 1",
    ]
