from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from sockservices.transports.polling import is_readable, is_writable


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    with one, other:
        one.setblocking(False)
        yield one, other


def test_what_has_come_can_be_read(pair: tuple[socket.socket, socket.socket]) -> None:
    one, other = pair
    assert not is_readable(one.fileno())
    other.send(b"x")
    assert is_readable(one.fileno())
    one.recv(1)
    assert not is_readable(one.fileno())
    other.close()
    assert is_readable(one.fileno())  # the end


def test_a_full_buffer_takes_no_more(pair: tuple[socket.socket, socket.socket]) -> None:
    one, other = pair
    assert is_writable(one.fileno())
    with pytest.raises(BlockingIOError):
        while True:
            one.send(bytes(1 << 16))
    assert not is_writable(one.fileno())
    other.setblocking(False)
    with pytest.raises(BlockingIOError):
        while True:
            other.recv(1 << 16)
    assert is_writable(one.fileno())


def test_one_that_waits_can_be_accepted() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        assert not is_readable(listening.fileno())
        with socket.create_connection(listening.getsockname()):
            assert is_readable(listening.fileno())


def test_a_descriptor_above_those_of_select_is_asked_all_the_same() -> None:
    """To select(2) a number above 1023 would be an error."""
    reading, writing = os.pipe()
    high = 1500
    try:
        os.dup2(writing, high)
        assert is_writable(high)
        os.write(high, b"x")
        assert is_readable(reading)
    finally:
        for descriptor in (reading, writing, high):
            os.close(descriptor)
