from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.testing import StringTransport

from sockservices.services.counter import CounterFactory
from sockservices.testing import StreamServiceContract
from tests.fakes import connected


def _greeted(factory: CounterFactory) -> StringTransport:
    transport = StringTransport()
    connected(factory.buildProtocol(None), transport)
    return transport


@given(st.integers(1, 300))
def test_each_connection_is_told_its_number_and_closed(connections: int) -> None:
    factory = CounterFactory()
    transports = [_greeted(factory) for _ in range(connections)]
    assert [transport.value().decode() for transport in transports] == [
        f"Connection {number}!\n" for number in range(1, connections + 1)
    ]
    assert all(transport.disconnecting for transport in transports)
    assert factory.count == connections


def test_the_number_is_that_of_the_arrival() -> None:
    factory = CounterFactory()
    first, second = factory.buildProtocol(None), factory.buildProtocol(None)
    late, early = StringTransport(), StringTransport()
    connected(second, early)
    connected(first, late)
    assert (late.value(), early.value()) == (b"Connection 1!\n", b"Connection 2!\n")


def test_two_factories_count_apart() -> None:
    _greeted(CounterFactory())
    assert _greeted(CounterFactory()).value() == b"Connection 1!\n"


@given(st.text())
def test_a_greeting_says_the_number_wherever_it_is_asked_for(text: str) -> None:
    greeting = text.replace("\\", "\\\\")
    assert _greeted(CounterFactory(greeting=greeting)).value() == text.replace("{}", "1").encode()


def test_other_braces_in_a_greeting_stay_as_they_are() -> None:
    factory = CounterFactory(greeting=r'{"number": {}, "of": "{0}"}\n')
    assert _greeted(factory).value() == b'{"number": 1, "of": "{0}"}\n'


def test_a_greeting_that_is_no_utf_8_is_sent_byte_by_byte() -> None:
    # As a command line gives it: PEP 383.
    assert _greeted(CounterFactory(greeting="\udcff{}")).value() == b"\xff1"


class TestCounter(StreamServiceContract):
    factory = CounterFactory
