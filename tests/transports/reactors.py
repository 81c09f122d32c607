"""Reactors of a test's own, beside the process's one, and what becomes of them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.selectreactor import SelectReactor

from sockservices.transports import EagerReactor, EagerStreams

TURNS = 5000
"""After so many turns a test has failed: nothing here takes a tenth of them."""


@contextmanager
def started(make: Callable[[], Any]) -> Iterator[Any]:
    """A new reactor that runs turn by turn (``iterate``), and is disposed of afterwards."""
    reactor = make()
    reactor.startRunning(installSignalHandlers=False)
    own = reactor.getReaders()
    try:
        yield reactor
    finally:
        dispose(reactor, own)


def dispose(reactor: Any, own: list[Any]) -> None:
    """Close all that a reactor holds.

    :param own: what it reads for itself, which ``disconnectAll`` does not close: its waker.
    """
    for _ in range(2):  # ports that were told to stop do it in a call later
        reactor.iterate(0)
    reactor.disconnectAll()
    for call in reactor.getDelayedCalls():
        call.cancel()
    for reader in own:
        reactor.removeReader(reader)
        reader.connectionLost(None)


@contextmanager
def asyncio_reactor() -> Iterator[Any]:
    """The reactor of a new event loop."""
    loop = asyncio.new_event_loop()
    try:
        with started(lambda: AsyncioSelectorReactor(loop)) as reactor:
            yield reactor
    finally:
        loop.close()


def turn_until(reactor: Any, met: Callable[[], Any]) -> int:
    """Run turns until ``met()``, and return how many it took."""
    for turns in range(TURNS // 5):
        if met():
            return turns
        reactor.iterate(0.01)
    raise AssertionError("it has not come in so many turns")


class Noting(Protocol):
    """Notes that it was made."""

    def __init__(self, made: list[Protocol]) -> None:
        self._made = made

    def connectionMade(self) -> None:
        self._made.append(self)


@contextmanager
def epoll_stock() -> Iterator[tuple[Any, Any]]:
    """A reactor and what listens and connects for it: here and below, the same reactor's."""
    with started(EPollReactor) as reactor:
        yield reactor, reactor


@contextmanager
def epoll_eager() -> Iterator[tuple[Any, Any]]:
    with started(EPollReactor) as reactor:
        yield reactor, EagerStreams(reactor)


@contextmanager
def eager() -> Iterator[tuple[Any, Any]]:
    with started(EagerReactor) as reactor:
        yield reactor, reactor


@contextmanager
def select_eager() -> Iterator[tuple[Any, Any]]:
    with started(SelectReactor) as reactor:
        yield reactor, EagerStreams(reactor)


@contextmanager
def asyncio_stock() -> Iterator[tuple[Any, Any]]:
    with asyncio_reactor() as reactor:
        yield reactor, reactor


@contextmanager
def asyncio_eager() -> Iterator[tuple[Any, Any]]:
    with asyncio_reactor() as reactor:
        yield reactor, EagerStreams(reactor)


def beside_a_busy_writer(kind: Any) -> Any:
    """The same, with a connection that has something to write in every turn."""

    @contextmanager
    def busy() -> Iterator[tuple[Any, Any]]:
        here, peer = socket.socketpair(socket.AF_UNIX)
        with kind() as (reactor, streams), peer:
            for each in (here, peer):
                each.setblocking(False)
            protocol: Any = Protocol()
            with here:
                streams.adoptStreamConnection(
                    here.fileno(), socket.AF_UNIX, Factory.forProtocol(lambda: protocol)
                )

            class Endless:
                def resumeProducing(self) -> None:
                    with suppress(BlockingIOError):
                        peer.recv(1 << 16)
                    protocol.transport.write(b"busy")

                def stopProducing(self) -> None: ...

            protocol.transport.registerProducer(Endless(), False)
            yield reactor, streams

    return busy
