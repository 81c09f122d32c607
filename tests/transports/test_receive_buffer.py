from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sockservices.transports.receive_buffer import DropWatch, drops_of, enlarge, size_of
from tests.fakes import ManualReactor

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")


@pytest.fixture
def made() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.bind(("127.0.0.1", 0))
        yield made


def test_a_larger_buffer_is_granted(made: socket.socket) -> None:
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    assert size_of(made) == 8192
    assert enlarge(made, 16384) == 16384 == size_of(made)


def test_a_buffer_is_never_made_smaller(made: socket.socket) -> None:
    before = size_of(made)
    assert enlarge(made, before - 1) == before == size_of(made)


@on_linux
def test_no_more_is_claimed_than_the_system_grants(made: socket.socket) -> None:
    limit = int(Path("/proc/sys/net/core/rmem_max").read_text())
    granted = enlarge(made, limit * 2)
    assert granted in (limit, limit * 2)  # as the test's user may not, or may, exceed the limit
    assert granted == made.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2


@on_linux
def test_the_kernel_tells_what_it_drops(made: socket.socket) -> None:
    assert drops_of(made) == 0
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        for _ in range(100):
            peer.sendto(bytes(1000), made.getsockname())
    dropped, kept = drops_of(made), 0
    made.setblocking(False)
    while True:
        try:
            made.recv(1000)
        except BlockingIOError:
            break
        kept += 1
    assert 0 < dropped == 100 - kept


class Watched:
    def __init__(self) -> None:
        self.reactor = ManualReactor()
        self.count = 0
        self.read = 0
        self.told: list[int] = []
        self.watch = DropWatch(self.reactor, self._count, self.told.append)

    def _count(self) -> int:
        self.read += 1
        return self.count


def test_what_is_dropped_is_told_within_a_second() -> None:
    watched = Watched()
    watched.watch.look_soon()
    watched.count = 3
    watched.reactor.advance(1)
    assert watched.told == [3]


def test_without_drops_nothing_is_told_and_an_idle_port_has_no_timer() -> None:
    watched = Watched()
    assert not watched.watch.is_due
    watched.watch.look_soon()
    assert watched.watch.is_due
    watched.reactor.advance(1)
    assert (watched.watch.is_due, watched.read, watched.told) == (False, 1, [])
    assert watched.reactor.getDelayedCalls() == []


def test_more_is_told_once_a_minute_with_nothing_left_out() -> None:
    watched = Watched()
    watched.watch.look_soon()
    watched.count = 3
    watched.reactor.advance(1)
    for _ in range(59):
        assert watched.watch.is_due
        watched.count += 1
        watched.reactor.advance(1)
    assert watched.told == [3]
    watched.reactor.advance(1)
    assert watched.told == [3, 59]
    watched.reactor.advance(60)
    assert (watched.watch.is_due, watched.told) == (False, [3, 59])


def test_the_rest_is_told_at_the_end() -> None:
    watched = Watched()
    watched.watch.look_soon()
    watched.count = 3
    watched.watch.end()
    assert watched.told == [3]
    assert watched.reactor.getDelayedCalls() == []


def test_who_never_looked_leaves_the_telling_to_others() -> None:
    watched = Watched()
    watched.count = 3
    watched.watch.end()
    assert watched.told == []
