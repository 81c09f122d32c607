from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sockservices.connections.activity import held_up, idle_seconds, waits_for_us
from sockservices.connections.ledger import Connection, Ledger


class Transport:
    """What a transport tells of its peer."""

    last_read: float | None = None
    bytes_out = 0
    taken = 0
    waits_for_us = False


def _connection(transport: Any) -> Connection:
    connection = Ledger("echo").enter("tcp:7", transport)
    connection.opened = 100.0
    return connection


def test_it_is_idle_from_the_beginning() -> None:
    connection = _connection(Transport())
    assert idle_seconds(connection, 103.0, 0.0) == 3.0


def test_what_it_sends_and_what_it_takes_are_activity() -> None:
    transport = Transport()
    connection = _connection(transport)
    transport.last_read = 104.0
    assert idle_seconds(connection, 105.0, 0.0) == 1.0
    transport.bytes_out = transport.taken = 1
    assert idle_seconds(connection, 106.0, 0.0) == 0.0
    assert idle_seconds(connection, 108.0, 0.0) == 2.0


def test_what_the_kernel_alone_has_taken_is_none() -> None:
    transport = Transport()
    connection = _connection(transport)
    transport.bytes_out = 1000
    assert idle_seconds(connection, 105.0, 0.0) == 5.0


def test_a_transport_that_counts_nothing_is_idle() -> None:
    connection = _connection(object())
    assert idle_seconds(connection, 105.0, 0.0) == 5.0
    assert not waits_for_us(connection)


@pytest.mark.parametrize("waits", [False, True])
def test_a_transport_tells_whether_its_peer_waits(waits: bool) -> None:
    transport = Transport()
    transport.waits_for_us = waits
    assert waits_for_us(_connection(transport)) is waits


@pytest.mark.parametrize(("late", "seconds"), [(0.0, 0.0), (-1.0, 0.0), (0.2, 0.0), (0.3, 0.3)])
def test_a_little_lateness_is_no_pause(late: float, seconds: float) -> None:
    assert held_up(late) == seconds


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 60))))
def test_pauses_are_left_out(looks: list[tuple[float, float]]) -> None:
    connection = _connection(Transport())
    now = 100.0
    for ran, paused in looks:
        now += ran + paused
        idle = idle_seconds(connection, now, paused)
        assert idle >= 0
    assert idle_seconds(connection, now, 0.0) == pytest.approx(sum(ran for ran, _ in looks))
