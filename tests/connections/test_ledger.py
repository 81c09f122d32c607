from __future__ import annotations

from time import monotonic
from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.testing import StringTransport
from twisted.logger import formatEvent
from twisted.python.failure import Failure

from sockservices.connections.ledger import (
    Closed,
    Connection,
    Event,
    Ledger,
    Opened,
    Reason,
    Refused,
)
from tests.fakes import logged, opened

_PEER = IPv4Address("TCP", "192.0.2.1", 40000)


class Transport(StringTransport):
    """One that counts."""

    bytes_in = 0
    bytes_out = 0

    def __init__(self) -> None:
        super().__init__(peerAddress=_PEER)  # type: ignore[no-untyped-call]


def test_a_connection_is_in_it_from_its_beginning_to_its_end() -> None:
    ledger, transport, protocol = Ledger("echo"), Transport(), object()
    connection = opened(ledger, transport, protocol)
    assert (ledger.live, list(ledger)) == (1, [connection])
    assert (connection.id, connection.service, connection.listener) == (1, "echo", "tcp:7")
    assert (connection.peer, connection.protocol) == (_PEER, protocol)
    assert connection.local == IPv4Address("TCP", "10.0.0.1", 12345)
    transport.bytes_in, transport.bytes_out = 5, 7
    assert (connection.bytes_in, connection.bytes_out) == (5, 7)
    ledger.close(transport, Failure(ConnectionDone()))
    assert (ledger.live, list(ledger)) == (0, [])
    assert (connection.bytes_in, connection.bytes_out, connection.peer) == (5, 7, _PEER)
    assert (connection.protocol, connection.local) == (None, None)


def test_the_totals_are_of_all_there_have_been() -> None:
    ledger, transports = Ledger("echo"), [Transport() for _ in range(3)]
    for number, transport in enumerate(transports):
        opened(ledger, transport, object())
        transport.bytes_in, transport.bytes_out = 10**number, 2 * 10**number
    ledger.close(transports[0], Failure(ConnectionDone()))
    ledger.close(transports[1], Failure(ConnectionDone()))
    for _ in range(2):
        ledger.refuse("tcp:7", _PEER, "rate")
    totals = ledger.totals
    assert (totals.opened, totals.closed, totals.refused) == (3, {"closed": 2}, {"rate": 2})
    assert (totals.bytes_in, totals.bytes_out) == (111, 222)
    totals.closed["closed"] = totals.refused["rate"] = 99  # copies
    assert (ledger.totals.closed, ledger.totals.refused) == ({"closed": 2}, {"rate": 2})


@pytest.mark.parametrize(
    ("why", "cut", "reason"),
    [
        (ConnectionDone(), None, "closed"),
        (ConnectionLost(), None, "lost"),
        (ConnectionAborted(), None, "aborted"),
        (ConnectionAborted(), "idle-timeout", "idle-timeout"),
        (RuntimeError("broken"), None, "RuntimeError"),
    ],
)
def test_an_end_has_its_reason(why: Exception, cut: Reason | None, reason: str) -> None:
    ledger, transport = Ledger("echo"), Transport()
    opened(ledger, transport, object()).cut = cut
    ledger.close(transport, Failure(why))
    assert ledger.totals.closed == {reason: 1}


def test_a_subscriber_hears_of_each_event_once_and_of_none_after() -> None:
    ledger, transport = Ledger("echo"), Transport()
    events: list[Event] = []
    unsubscribe = ledger.subscribe(events.append)
    connection = opened(ledger, transport, object())
    ledger.refuse("tcp:7", _PEER, "rate")
    ledger.close(transport, Failure(ConnectionDone()))
    first, refused, closed = events
    assert first == Opened(connection)
    assert refused == Refused("echo", "tcp:7", _PEER, "rate")
    assert isinstance(closed, Closed)
    assert (closed.connection, closed.reason) == (connection, "closed")
    assert 0 <= closed.seconds < monotonic() - connection.opened + 1
    unsubscribe()
    opened(ledger, Transport(), object())
    assert len(events) == 3


def test_a_subscriber_that_fails_costs_nobody_else_the_event() -> None:
    ledger = Ledger("echo")
    events: list[Event] = []

    def fail(_event: Event) -> None:
        raise RuntimeError("broken")

    ledger.subscribe(fail)
    ledger.subscribe(events.append)
    with logged() as log:
        opened(ledger, Transport(), object())
    assert len(events) == 1
    assert [event["log_failure"].type for event in log] == [RuntimeError]
    assert [formatEvent(event) for event in log] == ["a subscriber of the ledger failed"]


def test_what_does_not_count_has_no_bytes() -> None:
    ledger = Ledger("echo")
    transport: Any = StringTransport()
    connection = opened(ledger, transport, object())
    assert (connection.bytes_in, connection.bytes_out) == (0, 0)


def test_one_that_the_service_never_got_is_refused_and_not_closed() -> None:
    ledger, transports = Ledger("echo"), [Transport(), Transport()]
    events: list[Event] = []
    counts: list[int] = []
    ledger.subscribe(events.append)

    def watch(connection: Connection) -> None:
        assert connection.transport in transports
        counts.append(ledger.live)

    forget = ledger.watch(watch)
    cuts: tuple[Reason | None, ...] = ("denied", None)
    for transport, cut in zip(transports, cuts, strict=True):
        ledger.enter("tcp:7", transport).cut = cut
        assert transport in ledger
        transport.bytes_in = 10
    assert (ledger.live, ledger.totals.opened, events) == (2, 0, [])
    for transport in transports:
        ledger.close(transport, Failure(ConnectionDone()))
        assert transport not in ledger
    assert events == [
        Refused("echo", "tcp:7", _PEER, "denied"),
        Refused("echo", "tcp:7", _PEER, "proxy-header"),
    ]
    totals = ledger.totals
    assert (totals.opened, totals.closed, totals.bytes_in) == (0, {}, 20)
    assert totals.refused == {"denied": 1, "proxy-header": 1}
    forget()
    ledger.enter("tcp:7", Transport())
    assert counts == [1, 2, 1, 0]


class Port:
    datagrams_received = 5
    datagrams_truncated = 2
    datagrams_dropped = 1
    datagrams_unanswered = 3
    bytes_in = 50
    bytes_out = 60
    dropped_by_kernel = 7


def test_the_totals_have_those_of_datagram_listeners_before_and_after_their_end() -> None:
    ledger, ports = Ledger("echo"), [Port(), Port()]
    for port in ports:
        ledger.add_port(port)
    for _ in range(3):
        totals = ledger.totals
        assert (totals.datagrams, totals.truncated, totals.unsent) == (10, 4, 2)
        assert totals.unanswered == 6
        assert (totals.bytes_in, totals.bytes_out, totals.dropped_by_kernel) == (100, 120, 14)
        ledger.remove_port(ports[0])
    ports[1].datagrams_received += 1
    assert ledger.totals.datagrams == 11
