from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sockservices.connections.activity import held_up, is_idle
from sockservices.connections.ledger import Connection, Ledger


class Transport:
    """What a transport tells of its peer."""

    bytes_in = 0
    bytes_out = 0
    taken = 0
    waits_for_us = False


def _connection(transport: Any) -> Connection:
    connection = Ledger("echo").enter("tcp:7", transport)
    connection.opened = 100.0
    return connection


def test_it_is_idle_from_the_beginning() -> None:
    connection = _connection(Transport())
    assert not is_idle(connection, 102.9, 3.0)
    assert is_idle(connection, 103.0, 3.0)


def test_what_it_sends_and_what_it_takes_are_activity() -> None:
    transport = Transport()
    connection = _connection(transport)
    transport.bytes_in = 1
    assert not is_idle(connection, 105.0, 2.0)
    transport.bytes_out = transport.taken = 1
    assert not is_idle(connection, 106.0, 2.0)
    assert not is_idle(connection, 107.9, 2.0)
    assert is_idle(connection, 108.0, 2.0)


def test_what_the_kernel_alone_has_taken_is_none() -> None:
    transport = Transport()
    connection = _connection(transport)
    transport.bytes_out = 1000
    assert is_idle(connection, 105.0, 5.0)


def test_a_transport_that_counts_nothing_is_idle() -> None:
    assert is_idle(_connection(object()), 105.0, 5.0)


def test_one_that_waits_for_us_is_not_idle_and_has_all_its_time_again() -> None:
    transport = Transport()
    connection = _connection(transport)
    transport.waits_for_us = True
    assert not is_idle(connection, 105.0, 5.0)
    transport.waits_for_us = False
    assert not is_idle(connection, 109.9, 5.0)
    assert is_idle(connection, 110.0, 5.0)


@pytest.mark.parametrize(("late", "seconds"), [(0.0, 0.0), (-1.0, 0.0), (0.2, 0.0), (0.3, 0.3)])
def test_a_little_lateness_is_no_pause(late: float, seconds: float) -> None:
    assert held_up(late) == seconds


@given(st.lists(st.tuples(st.integers(0, 10), st.integers(0, 60))))
def test_pauses_are_left_out(looks: list[tuple[int, int]]) -> None:
    connection = _connection(Transport())
    now = 100.0
    for ran, paused in looks:
        now += ran + paused
        is_idle(connection, now, 1000.0, paused)
    ran_for = sum(ran for ran, _ in looks)
    assert is_idle(connection, now, ran_for)
    assert not is_idle(connection, now, ran_for + 0.1)
