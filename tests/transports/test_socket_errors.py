"""Ports whose socket has an error, or is shut down by somebody else, on real reactors."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.pollreactor import PollReactor
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.selectreactor import SelectReactor
from twisted.logger import formatEvent

from sockservices.listening import Listening, listener
from sockservices.transports import EagerReactor, port, socket_errors
from tests.fakes import logged
from tests.transports.datagrams import Recorder
from tests.transports.reactors import Noting, asyncio_reactor, started, turn_until


@pytest.fixture(params=["epoll", "eager", "poll", "select", "asyncio"])
def reactor(request: Any) -> Iterator[Any]:
    kinds = {"epoll": EPollReactor, "eager": EagerReactor, "poll": PollReactor}
    if request.param == "asyncio":
        with asyncio_reactor() as made:
            yield made
    else:
        with started(kinds.get(request.param, SelectReactor)) as made:
            yield made


class Open:
    """A port of one kind, with what it serves, and what it tells."""

    def __init__(self, reactor: Any, description: str, *, stock: bool = False) -> None:
        self.reactor = reactor
        self.made: list[Protocol] = []
        self.recorder = Recorder()
        found = listener(reactor, description, Listening(stock_transports=stock))
        streams = Factory.forProtocol(lambda: Noting(self.made))
        serving: Any = self.recorder if found.kind == "datagram" else streams
        ports: list[Any] = []
        found.endpoint.listen(serving).addCallback(ports.append)
        [self.port] = ports
        self.errors: list[int | None] = []
        self.lost: list[str] = []
        self.port.on_error = lambda error: self.errors.append(error.errno)
        self.port.on_closed = lambda why: self.lost.append(why) if why is not None else None

    def shut_down(self) -> None:
        """Shut the socket down as another process that has it does."""
        with socket.socket(fileno=os.dup(self.port.fileno())) as same:
            # UDP says that it is not connected, but it is shut down: inet_shutdown() in af_inet.c.
            with suppress(OSError):
                same.shutdown(socket.SHUT_RDWR)

    @property
    def pause(self) -> Any:
        """The call that ends its pause, if it pauses."""
        return self.port._resumption

    def served(self) -> int:
        return len(self.made) + len(self.recorder.received)

    def is_served(self) -> bool:
        """Whether the port serves somebody new."""
        before = self.served()
        with socket.socket(self.port.addressFamily, self.port.socketType) as peer:
            peer.connect(self.port.socket.getsockname())
            if self.port.kind == "datagram":
                peer.send(b"hello")
            turn_until(self.reactor, lambda: self.served() > before)
        return True


KINDS = ["tcp:0:interface=127.0.0.1", "unix:{}/s", "udp:0:interface=127.0.0.1", "unixgram:{}/d"]


@pytest.mark.parametrize("stock", [False, True], ids=["ours", "stock"])
@pytest.mark.parametrize("kind", KINDS)
def test_one_that_is_shut_down_closes_and_says_so_once(
    reactor: Any, tmp_path: Path, kind: str, stock: bool
) -> None:
    opened = Open(reactor, kind.format(tmp_path), stock=stock)
    assert opened.is_served()
    opened.shut_down()
    turn_until(reactor, lambda: opened.lost)
    assert opened.lost == ["its socket was shut down"]
    assert opened.port not in reactor.getReaders()
    assert list(tmp_path.iterdir()) == []
    assert opened.recorder.stopped == (opened.port.kind == "datagram")


@pytest.mark.parametrize("kind", KINDS)
def test_one_whose_service_fails_at_the_end_says_so_too(
    reactor: Any, tmp_path: Path, kind: str
) -> None:
    def fail() -> None:
        raise RuntimeError("no end")

    opened = Open(reactor, kind.format(tmp_path))
    if opened.port.kind == "stream":
        opened.port.factory.stopFactory = fail
    else:
        opened.recorder.stopProtocol = fail  # type: ignore[method-assign]
    opened.shut_down()
    turn_until(reactor, lambda: opened.lost)
    assert opened.lost == ["its socket was shut down"]


@pytest.mark.parametrize("kind", KINDS)
def test_one_whose_descriptor_is_closed_says_so(tmp_path: Path, kind: str) -> None:
    with started(SelectReactor) as reactor:  # epoll(7) forgets it, without an event
        opened = Open(reactor, kind.format(tmp_path))
        opened.port.socket.close()
        turn_until(reactor, lambda: opened.lost)
        assert opened.lost == ["its file descriptor was closed"]


@pytest.mark.parametrize("kind", KINDS)
def test_one_that_is_asked_to_close_is_not_lost(reactor: Any, tmp_path: Path, kind: str) -> None:
    opened = Open(reactor, kind.format(tmp_path))
    closed: list[object] = []
    opened.port.stopListening().addCallback(closed.append)
    turn_until(reactor, lambda: closed)
    assert opened.lost == []


@pytest.mark.parametrize("kind", KINDS)
def test_one_that_is_shut_down_while_it_finishes_has_closed(
    reactor: Any, tmp_path: Path, kind: str
) -> None:
    opened = Open(reactor, kind.format(tmp_path))
    peer = socket.socket(opened.port.addressFamily, opened.port.socketType)
    with closing(peer):
        peer.connect(opened.port.socket.getsockname())
        peer.send(b"waits") if opened.port.kind == "datagram" else None
        opened.port.stopReading()
        closed: list[object] = []
        opened.port.finish(3600).addCallback(closed.append)
        assert not closed
        opened.port.startReading()
        opened.shut_down()
        turn_until(reactor, lambda: closed)


# Errors that pass


def test_a_refusal_is_told_to_the_protocol_and_the_port_goes_on(reactor: Any) -> None:
    """On a connected socket, an ICMP message is an error of the socket: udp(7)."""
    opened = Open(reactor, "udp:0:interface=127.0.0.1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        where = peer.getsockname()
    opened.port.connect(*where)
    for times in (1, 2):
        opened.port.write(b"is anybody there?")
        turn_until(reactor, lambda times=times: opened.recorder.refused == times)  # type: ignore[misc]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(where)
        peer.sendto(b"yes", opened.port.socket.getsockname())
        turn_until(reactor, lambda: opened.recorder.datagrams == [b"yes"])
    assert opened.lost == []
    assert opened.errors == [errno.ECONNREFUSED] * 2


def test_a_protocol_that_fails_on_a_refusal_keeps_its_port(reactor: Any) -> None:
    opened = Open(reactor, "udp:0:interface=127.0.0.1")

    def fail() -> None:
        refusals.append(len(refusals))
        raise RuntimeError("no")

    refusals: list[int] = []
    opened.recorder.connectionRefused = fail  # type: ignore[method-assign]
    opened.port.connect("127.0.0.1", opened.port.getHost().port ^ 1)
    with logged() as events:
        opened.port.write(b"is anybody there?")
        turn_until(reactor, lambda: refusals)
        opened.port.write(b"and now?")  # the error of the first, if it was not read yet
        turn_until(reactor, lambda: len(refusals) > 1)
    assert opened.lost == []
    assert any("failed on a refusal" in (formatEvent(event) or "") for event in events)


class FailingOnce(socket.socket):
    """A socket whose next read fails, as the kernel makes it fail."""

    number: int | None = None

    def fail(self) -> None:
        number, self.number = self.number, None
        if number is not None:
            raise OSError(number, os.strerror(number))

    def recvfrom_into(self, *arguments: Any) -> Any:
        self.fail()
        return super().recvfrom_into(*arguments)

    def recvmsg_into(self, *arguments: Any) -> Any:
        self.fail()
        return super().recvmsg_into(*arguments)


@pytest.fixture(autouse=True)
def _accepting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let them fail to accept, too."""
    accept = port._accept

    def accept_or_fail(listener: socket.socket) -> Any:
        if isinstance(listener, FailingOnce):
            listener.fail()
        return accept(listener)

    monkeypatch.setattr(port, "_accept", accept_or_fail)


def _fail_once(opened: Open, number: int) -> None:
    made = opened.port
    made.stopReading()
    made.socket = FailingOnce(fileno=made.socket.detach())
    made.fileno = made.socket.fileno
    made.socket.setblocking(False)
    made.socket.number = number
    made.startReading()


@pytest.mark.parametrize("number", [errno.EHOSTUNREACH, errno.ENETDOWN, errno.EPROTO])
@pytest.mark.parametrize("kind", KINDS)
def test_an_error_of_one_peer_costs_nobody_else_anything(
    reactor: Any, tmp_path: Path, kind: str, number: int
) -> None:
    opened = Open(reactor, kind.format(tmp_path))
    _fail_once(opened, number)
    assert opened.is_served()
    assert (opened.errors, opened.lost, opened.pause) == ([number], [], None)


@pytest.mark.parametrize("number", [errno.EPERM, errno.EIO])
@pytest.mark.parametrize("kind", KINDS)
def test_at_an_error_that_may_stay_a_port_pauses(
    reactor: Any, tmp_path: Path, kind: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket_errors, "_PAUSE", 3600)
    opened = Open(reactor, kind.format(tmp_path))
    _fail_once(opened, number)
    with socket.socket(opened.port.addressFamily, opened.port.socketType) as peer:
        peer.connect(opened.port.socket.getsockname())
        peer.send(b"waits") if opened.port.kind == "datagram" else None
        turn_until(reactor, lambda: opened.errors)
        assert opened.port not in reactor.getReaders()
        opened.pause.reset(0)
        turn_until(reactor, opened.served)
    assert (opened.errors, opened.lost) == ([number], [])


@pytest.mark.parametrize("number", [errno.ENOMEM, errno.ENOBUFS])
@pytest.mark.parametrize("kind", KINDS[2:])
def test_without_memory_datagrams_wait(
    reactor: Any, tmp_path: Path, kind: str, number: int
) -> None:
    opened = Open(reactor, kind.format(tmp_path))
    _fail_once(opened, number)
    assert opened.is_served()
    assert (opened.errors, opened.lost) == ([number], [])


def test_a_port_without_a_host_logs_it(reactor: Any) -> None:
    opened = Open(reactor, KINDS[0])
    opened.port.on_error = opened.port.on_closed = None
    _fail_once(opened, errno.EPROTO)
    with logged() as events:
        assert opened.is_served()
    where = opened.port.description
    assert f"{where} continues after an error: {os.strerror(errno.EPROTO)}" in [
        formatEvent(event) for event in events
    ]
    opened.shut_down()
    turn_until(reactor, lambda: not opened.port.connected)
