"""Which accelerator is found; and what is unusual, which has the same effects with it as without.

``.ci/fast`` runs these tests, and all others of this room, in both ways.
"""

from __future__ import annotations

import errno
import gc
import os
import socket
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.abstract import FileDescriptor
from twisted.internet.protocol import Factory, Protocol
from twisted.python import context, log

from sockservices.answering import AnsweringProtocol
from sockservices.transports import tcp, unix
from sockservices.transports.accelerator import SWITCH, accelerator, find, language
from sockservices.transports.udp import UdpPort
from tests.transports import reactors
from tests.transports.datagrams import Udp
from tests.transports.reactors import turn_until


@contextmanager
def installed(monkeypatch: pytest.MonkeyPatch, module: Any, version: str = "1.2") -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "sockservices_fast", module)
        patch.setattr("importlib.metadata.version", lambda _package: version)
        yield


def test_it_is_found_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    module = SimpleNamespace(INTERFACE=1)
    with installed(monkeypatch, module):
        assert find({}) == (module, "C (sockservices-fast 1.2)")
        assert find({SWITCH: "1"}) == (module, "C (sockservices-fast 1.2)")
        assert find({SWITCH: "0"}) == (None, "Python (SOCKSERVICES_FAST=0)")


def test_one_that_does_not_fit_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with installed(monkeypatch, SimpleNamespace(INTERFACE=0)):
        assert find({}) == (None, "Python (sockservices-fast 1.2 does not fit this sockservices)")


@pytest.mark.parametrize(
    ("body", "language"),
    [
        (None, "Python"),
        ("import nowhere", "Python (sockservices-fast needs nowhere)"),
        (
            "raise ImportError('undefined symbol: x')",
            "Python (sockservices-fast cannot be loaded: undefined symbol: x)",
        ),
    ],
)
def test_without_one_that_works_python_serves(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any, body: str | None, language: str
) -> None:
    for name in [name for name in sys.modules if name.startswith("sockservices_fast")]:
        monkeypatch.delitem(sys.modules, name)
    if body is not None:
        (tmp_path / "sockservices_fast.py").write_text(body)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.setattr(sys, "meta_path", [e for e in sys.meta_path if "Path" in str(e)])
    assert find({}) == (None, language)


def test_ci_tests_what_it_says() -> None:
    # Set by .ci/fast and .ci/other-pythons.
    assert "SOCKSERVICES_FAST_IS_TESTED" not in os.environ or accelerator is not None, language


@pytest.fixture(params=["eager", "epoll_eager"])
def reactor(request: Any) -> Any:
    with getattr(reactors, request.param)() as (_reactor, streams):
        yield streams


@pytest.fixture
def errors() -> Iterator[list[Any]]:
    events: list[Any] = []
    log.addObserver(events.append)
    yield events
    log.removeObserver(events.append)


class Scripted(Protocol):
    """Calls a function with what it receives, and notes how it ended."""

    transport: Any

    def __init__(self, received: Any) -> None:
        self._received = received
        self.ends: list[Any] = []

    def dataReceived(self, data: bytes) -> None:
        self._received(self.transport, data)

    def connectionLost(self, reason: Any = None) -> None:
        self.ends.append(reason.type.__name__)


def _tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        peer = socket.create_connection(listening.getsockname())
        return listening.accept()[0], peer


class Pair:
    """A connection that has been read and answered once, and the plain socket of its peer."""

    def __init__(self, reactor: Any, received: Any, kind: int = socket.AF_UNIX) -> None:
        self.reactor = reactor
        self.protocol = Scripted(lambda transport, data: transport.write(data))
        here, self.peer = _tcp_pair() if kind == socket.AF_INET else socket.socketpair()
        with here:
            factory = Factory.forProtocol(lambda: self.protocol)
            reactor.adoptStreamConnection(here.fileno(), kind, factory)
        self.transport = self.protocol.transport
        self.peer.settimeout(30)
        for _ in range(2):
            self.peer.sendall(b"?")
            self.turn_until_answered(b"?")
        self.protocol._received = received

    def turn_until_answered(self, answer: bytes) -> None:
        got = b""
        self.peer.setblocking(False)

        def is_there() -> bool:
            nonlocal got
            try:
                got += self.peer.recv(1 << 20)
            except BlockingIOError:
                return False
            return len(got) >= len(answer)

        turn_until(self.reactor, is_there)
        self.peer.setblocking(True)
        assert got == answer

    def turn_until_lost(self) -> None:
        turn_until(self.reactor, lambda: self.protocol.ends)


KINDS = pytest.mark.parametrize("kind", [socket.AF_INET, socket.AF_UNIX], ids=["tcp", "unix"])


def echo(transport: Any, data: bytes) -> None:
    transport.write(data)


@KINDS
def test_what_was_written_before_an_error_is_sent(
    reactor: Any, kind: int, errors: list[Any]
) -> None:
    def fail(transport: Any, data: bytes) -> None:
        transport.write(data)
        raise ValueError("scripted")

    pair = Pair(reactor, fail, kind)
    with pair.peer:
        pair.peer.sendall(b"answer")
        pair.turn_until_answered(b"answer")
        pair.turn_until_lost()
    assert pair.protocol.ends == ["ValueError"]
    (logged,) = [each for each in errors if each["isError"]]
    assert logged["failure"].type is ValueError
    assert logged["failure"].getTracebackObject() is not None
    assert logged["system"].startswith("Scripted,")


@KINDS
def test_of_two_errors_the_later_one_is_logged_and_knows_the_earlier(
    reactor: Any, kind: int, errors: list[Any]
) -> None:
    class Failing:
        def pauseProducing(self) -> None:
            raise RuntimeError("later")

        def stopProducing(self) -> None: ...

    def fail(transport: Any, data: bytes) -> None:
        transport.write(data + data)
        raise ValueError("earlier")

    pair = Pair(reactor, fail, kind)
    with pair.peer:
        pair.transport.registerProducer(Failing(), True)
        pair.transport.bufferSize = 4
        pair.peer.sendall(b"abc")
        pair.turn_until_answered(b"abcabc")
        pair.turn_until_lost()
    (logged,) = [each["failure"].value for each in errors if each["isError"]]
    assert (str(logged), str(logged.__context__)) == ("later", "earlier")


@KINDS
@pytest.mark.parametrize("end", ["loseConnection", "abortConnection", "loseWriteConnection"])
def test_it_may_end_while_it_reads(reactor: Any, kind: int, end: str) -> None:
    if kind == socket.AF_UNIX and end == "abortConnection":
        end = "loseConnection"  # Twisted's Unix streams cannot be aborted

    def answer_and_end(transport: Any, data: bytes) -> None:
        transport.write(data)
        getattr(transport, end)()

    pair = Pair(reactor, answer_and_end, kind)
    with pair.peer:
        pair.peer.sendall(b"last")
        if end != "abortConnection":
            pair.turn_until_answered(b"last")
        pair.peer.close()
        pair.turn_until_lost()
        for _ in range(3):
            reactor.iterate(0)
    assert len(pair.protocol.ends) == 1


@KINDS
@pytest.mark.parametrize("outer", [(b"outer",), (b"out", b"er"), (b"outer", bytes(1 << 20))])
def test_a_turn_of_the_reactor_in_a_read(reactor: Any, kind: int, outer: tuple[bytes, ...]) -> None:
    """Nothing that was written before it is lost, and the order is that of the writes."""
    seen: list[bytes] = []

    def turn(transport: Any, data: bytes) -> None:
        seen.append(data)
        if data == b"inner":
            transport.write(data)
            return
        for each in outer:
            transport.write(each)
        pair.peer.sendall(b"inner")
        turn_until(reactor, lambda: len(seen) == 2)
        transport.write(b"-end")

    pair = Pair(reactor, turn, kind)
    with pair.peer:
        pair.peer.sendall(b"outer")
        turn_until(reactor, lambda: len(seen) == 2)
        pair.turn_until_answered(b"".join(outer) + b"inner-end")
    assert seen == [b"outer", b"inner"]


@KINDS
def test_its_descriptor_may_be_anothers_by_now(reactor: Any, kind: int) -> None:
    """Other code has closed the socket: what is written then must not reach who has its number."""

    def close_and_write(transport: Any, data: bytes) -> None:
        number = transport.fileno()
        transport.getHandle().close()
        strangers.append(os.dup2(stranger.fileno(), number))
        transport.write(b"a secret")

    strangers: list[int] = []
    stranger, its_peer = socket.socketpair()
    with stranger, its_peer:
        pair = Pair(reactor, close_and_write, kind)
        with pair.peer:
            pair.peer.sendall(b"!")
            turn_until(reactor, lambda: strangers)
            for _ in range(5):
                reactor.iterate(0)
            its_peer.setblocking(False)
            with pytest.raises(BlockingIOError):
                its_peer.recv(100)
            pair.transport.abortConnection() if kind == socket.AF_INET else None
        for each in strangers:
            os.close(each)


def test_a_socket_may_be_wrapped(reactor: Any) -> None:
    class Wrapped:
        def __init__(self, wrapped: socket.socket) -> None:
            self.wrapped = wrapped
            self.sent: list[bytes] = []

        def recv(self, size: int) -> bytes:
            return self.wrapped.recv(size).upper()

        def send(self, data: bytes) -> int:
            self.sent.append(bytes(data))
            return self.wrapped.send(data)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.wrapped, name)

    pair = Pair(reactor, echo, socket.AF_INET)
    with pair.peer:
        wrapped = pair.transport.socket = Wrapped(pair.transport.socket)
        pair.peer.sendall(b"abc")
        pair.turn_until_answered(b"ABC")
    assert wrapped.sent == [b"ABC"]


@pytest.mark.parametrize("name", ["doRead", "write", "_send"])
def test_a_subclass_may_replace_what_is_accelerated(
    reactor: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    calls: list[tuple[Any, ...]] = []

    def replaced(self: Any, *arguments: Any) -> Any:
        calls.append(arguments)
        return getattr(super(Replacing, self), name)(*arguments)

    Replacing: Any = type("Replacing", (tcp.Server,), {name: replaced})  # noqa: N806
    monkeypatch.setattr(tcp, "Server", Replacing)
    monkeypatch.setattr("sockservices.transports.streams.tcp.Server", Replacing)
    pair = Pair(reactor, echo, socket.AF_INET)
    with pair.peer:
        calls.clear()
        pair.peer.sendall(b"abc")
        pair.turn_until_answered(b"abc")
    assert calls == [() if name == "doRead" else (b"abc",)]


def test_methods_of_an_object_may_be_replaced(reactor: Any) -> None:
    def note(owner: Any, name: str) -> None:
        replaced = getattr(owner, name)

        def noted(*arguments: Any) -> Any:
            calls.append(name)
            return replaced(*arguments)

        setattr(owner, name, noted)

    calls: list[str] = []
    pair = Pair(reactor, echo, socket.AF_INET)
    with pair.peer:
        note(pair.transport, "doRead")
        note(pair.transport, "write")
        note(pair.protocol, "dataReceived")
        pair.peer.sendall(b"abc")
        pair.turn_until_answered(b"abc")
    assert calls == ["doRead", "dataReceived", "write"]


@pytest.mark.parametrize("where", ["the class", "Twisted's class"])
def test_a_class_may_say_how_much_is_read(
    reactor: Any, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    changed = tcp.Server if where == "the class" else FileDescriptor
    monkeypatch.setattr(changed, "bufferSize", 4, raising=False)
    seen: list[bytes] = []
    pair = Pair(reactor, lambda _transport, data: seen.append(data), socket.AF_INET)
    with pair.peer:
        pair.peer.sendall(b"abcdefghij")
        turn_until(reactor, lambda: sum(map(len, seen)) == 10)
    assert seen[0] == b"abcd"


@KINDS
def test_a_full_read_is_followed_by_a_larger_one_on_tcp(reactor: Any, kind: int) -> None:
    seen: list[int] = []
    pair = Pair(reactor, lambda _transport, data: seen.append(len(data)), kind)
    with pair.peer:
        pair.transport.bufferSize = 1000
        pair.peer.sendall(bytes(5000))
        turn_until(reactor, lambda: sum(seen) == 5000)
        pair.peer.sendall(bytes(5000))
        turn_until(reactor, lambda: sum(seen) == 10_000)
    # On a Unix socket it might skip file descriptors that the next protocol takes.
    assert seen == ([1000] * 10 if kind == socket.AF_UNIX else [1000, 4000, 5000])


@KINDS
@pytest.mark.parametrize("written", [bytearray(b"ab"), memoryview(b"ab"), "ab", None])
def test_what_is_no_bytes_is_refused_as_ever(reactor: Any, kind: int, written: Any) -> None:
    outcomes: list[Any] = []

    def write(transport: Any, data: bytes) -> None:
        transport.write(b"")
        transport.write(data)
        try:
            transport.write(written)
        except TypeError as error:
            outcomes.append(str(error))
        transport.write(data)

    pair = Pair(reactor, write, kind)
    with pair.peer:
        pair.peer.sendall(b"!")
        pair.turn_until_answered(b"!!")
    assert outcomes == ["Data must be bytes"] or outcomes == ["Data must not be string"]


@KINDS
def test_each_is_the_context_of_what_it_logs(reactor: Any, kind: int, errors: list[Any]) -> None:
    def say(transport: Any, data: bytes) -> None:
        log.msg("here")
        transport.write(data)

    pair = Pair(reactor, say, kind)
    depth = len(context.theContextTracker.currentContext().contexts)
    with pair.peer:
        pair.peer.sendall(b"!")
        pair.turn_until_answered(b"!")
    said = [each["system"] for each in errors if each["message"] == ("here",)]
    assert len(said) == 1
    assert said[0].startswith("Scripted,")
    assert len(context.theContextTracker.currentContext().contexts) == depth


@KINDS
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ConnectionError])
def test_whatever_a_protocol_raises_ends_its_connection_alone(
    reactor: Any, kind: int, error: type[BaseException], errors: list[Any]
) -> None:
    def fail(transport: Any, data: bytes) -> None:
        raise error

    pair, other = Pair(reactor, fail, kind), Pair(reactor, echo, kind)
    with pair.peer, other.peer:
        pair.peer.sendall(b"!")
        other.peer.sendall(b"?")
        other.turn_until_answered(b"?")
        pair.turn_until_lost()
    assert pair.protocol.ends == [error.__name__]
    assert [each["failure"].type for each in errors if each["isError"]] == [error]


@KINDS
def test_an_interrupt_while_a_connection_ends_leaves_the_reactor(reactor: Any, kind: int) -> None:
    def interrupt(_reason: Any) -> None:
        raise KeyboardInterrupt

    pair = Pair(reactor, lambda *_: None, kind)
    setattr(pair.protocol, "connectionLost", interrupt)  # noqa: B010
    pair.peer.close()
    with pytest.raises(KeyboardInterrupt):
        turn_until(reactor, lambda: False)


@KINDS
def test_an_ended_connection_is_collected(reactor: Any, kind: int) -> None:
    pair = Pair(reactor, echo, kind)
    ended = weakref.ref(pair.transport)
    pair.transport.itself = pair.transport
    pair.peer.close()
    pair.turn_until_lost()
    pair.transport = pair.protocol.transport = None
    for _ in range(2):
        reactor.iterate(0)
    gc.collect()
    assert ended() is None


@KINDS
def test_data_may_be_given_by_name(reactor: Any, kind: int) -> None:
    pair = Pair(reactor, lambda transport, data: transport.write(data=data), kind)
    with pair.peer:
        pair.peer.sendall(b"abc")
        pair.turn_until_answered(b"abc")


class Answering(AnsweringProtocol):
    """Calls a function with its transport and each datagram."""

    noisy = False

    def __init__(self, received: Any) -> None:
        self._received = received

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self._received(self, datagram, addr)


@contextmanager
def udp_pair(reactor: Any, host: str, received: Any) -> Iterator[tuple[Any, socket.socket]]:
    port = UdpPort(0, Answering(received), host, reactor)
    port.startListening()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.connect(("127.0.0.1", port.getHost().port))
        peer.settimeout(30)
        yield port, peer
    port.stopListening()
    for _ in range(2):
        reactor.iterate(0)


HOSTS = pytest.mark.parametrize("host", ["127.0.0.1", ""], ids=["one", "all"])


@HOSTS
def test_a_datagram_may_be_answered_in_every_way(reactor: Any, host: str) -> None:
    def answer(protocol: Any, datagram: bytes, addr: Any) -> None:
        transport = protocol.transport
        protocol.answer(datagram + b" answered", addr)
        transport.answer(datagram=datagram + b" answered by name", addr=addr)
        transport.write(datagram + b" written", addr)
        transport.write(datagram + b" written by name", addr=addr)
        transport.write(datagram + b" written to an equal", (addr[0], addr[1]))
        transport.writeSequence([datagram, b" in parts"], addr)

    with udp_pair(reactor, host, answer) as (port, peer):
        for datagram in (b"1", b"2"):
            peer.send(datagram)
            turn_until(reactor, lambda: port.datagrams_received == int(datagram))  # noqa: B023
            assert [peer.recv(100) for _ in range(6)] == [
                datagram + b" answered",
                datagram + b" answered by name",
                datagram + b" written",
                datagram + b" written by name",
                datagram + b" written to an equal",
                datagram + b" in parts",
            ]
        assert port.bytes_in == 2
        assert port.bytes_out == 2 * (6 + 9 + 17 + 8 + 16 + 20 + 9)


def test_a_datagram_does_not_reach_who_has_the_descriptor_by_now() -> None:
    def close_and_write(protocol: Any, datagram: bytes, addr: Any) -> None:
        number = udp.port.socket.fileno()
        udp.port.socket.close()
        os.dup2(stranger.fileno(), number)
        try:
            protocol.transport.write(b"a secret", addr)
        finally:
            os.close(number)

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        with Udp(Answering(close_and_write)) as udp:
            udp.say(b"!")
            ended = udp.port.doRead()
            assert ended is not None
            assert ended.errno == errno.EBADF
            assert udp.port.datagrams_dropped == 1
            assert udp.port.bytes_out == 0
            with pytest.raises(BlockingIOError):
                udp.peer.recv(100)


@pytest.mark.parametrize("kind", [tcp.Client, unix.Client, tcp.Server, unix.Server])
def test_one_that_was_never_begun(kind: Any) -> None:
    """Whatever is asked of it, it is an error of Python."""
    made = kind.__new__(kind)
    for name in ("protocol", "socket"):
        with pytest.raises(AttributeError):
            getattr(made, name)
    with pytest.raises(AttributeError):
        made.doRead()
    assert made.bytes_in == made.bytes_out == 0
    assert made.bufferSize == FileDescriptor.bufferSize
