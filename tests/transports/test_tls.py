"""The same script on Twisted's TLS transport, mended, and on ours: the same bytes and callbacks.

The script is what a peer sends, where its ciphertext is cut, and what the service does. Beneath
both is the same transport, which is not connected to anything.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeAlias

import attrs
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificate
from hypothesis import given, settings
from hypothesis import strategies as st
from OpenSSL import SSL
from twisted.internet import ssl
from twisted.internet.error import ConnectionAborted
from twisted.internet.interfaces import IHandshakeListener, IPushProducer
from twisted.internet.main import CONNECTION_DONE
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from sockservices.transports import tls, tls_closing, tls_records
from tests.certificates import pem_of

_STREAM = random.Random(2).randbytes(1 << 21)
_CERTIFICATE, _KEY = (each.encode() for each in pem_of("localhost"))
_options: Any = ssl.CertificateOptions
_OWN = _options(
    certificate=load_pem_x509_certificate(_CERTIFICATE),
    privateKey=load_pem_private_key(_KEY, None),
)
_BUFFER = 1 << 16  # bytes that the transport beneath takes before it pauses its producer

Operation: TypeAlias = tuple[Any, ...]


class ScriptedError(Exception):
    """Raised where the script says so."""


@attrs.frozen
class Step:
    """What the peer does, how its ciphertext is cut, and what the service does with it."""

    peer: tuple[Operation, ...]
    cuts: tuple[int, ...] = ()
    received: tuple[Operation, ...] = ()
    """Done in the first ``dataReceived`` of the step."""
    later: tuple[Operation, ...] = ()
    """Done in a turn of its own, after the step."""


@attrs.frozen
class Script:
    version: int
    made: tuple[Operation, ...] = ()
    cuts: tuple[int, ...] = ()
    """Where the ciphertext of the handshake is cut."""
    steps: tuple[Step, ...] = ()


class Beneath:
    """The transport that carries the ciphertext."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self.sent = b""
        self.producer: Any = None
        self.is_paused = False
        self.ends: BaseException | None = None
        self.disconnecting = False

    def write(self, data: bytes) -> None:
        if self._run.is_lost:
            return
        self.sent += data
        if len(self.sent) > _BUFFER and self.producer is not None and not self.is_paused:
            self.is_paused = True
            self.producer.pauseProducing()

    def turn(self) -> bytes:
        sent, self.sent = self.sent, b""
        if self.is_paused:
            self.is_paused = False
            if self.producer is not None:
                self.producer.resumeProducing()
        if self.disconnecting and self.producer is None and self.ends is None:
            self.ends = CONNECTION_DONE
        return sent

    def loseConnection(self) -> None:
        self.disconnecting = True

    def abortConnection(self) -> None:  # noqa: N802
        self.disconnecting = True
        self.ends = ConnectionAborted()
        self.sent = b""

    def registerProducer(self, producer: Any, streaming: bool) -> None:  # noqa: N802
        assert streaming
        if self.producer is not None:
            raise RuntimeError
        self.producer = producer

    def unregisterProducer(self) -> None:  # noqa: N802
        self.producer = None
        self.is_paused = False


@implementer(IPushProducer)
class Pushing:
    """Writes until it is paused, so many pieces."""

    def __init__(self, protocol: Scripted, size: int, times: int) -> None:
        self._protocol = protocol
        self._size = size
        self._times = times
        self._is_paused = False

    def produce(self) -> None:
        while self._times and not self._is_paused:
            self._times -= 1
            self._protocol.op_write(self._size)
        if not self._times and self._protocol.producer is self:
            self._protocol.op_unregister()

    def pauseProducing(self) -> None:
        self._is_paused = True

    def resumeProducing(self) -> None:
        self._is_paused = False
        self.produce()

    def stopProducing(self) -> None:
        self._times = 0
        self._protocol.events.append(("stop",))


@implementer(IHandshakeListener)
class Scripted(Protocol):
    transport: Any

    def __init__(self, script: Script) -> None:
        self.script = script
        self.events: list[tuple[Any, ...]] = []
        self.due: tuple[Operation, ...] = ()
        self.taken = 0
        self.producer: Any = None
        self.boundaries = tls_records.Boundaries()

    def connectionMade(self) -> None:
        self.do(self.script.made)

    def handshakeCompleted(self) -> None:  # noqa: N802
        self.events.append(("handshake",))

    def dataReceived(self, data: bytes) -> None:
        if self.events and self.events[-1][0] == "data":
            data = self.events.pop()[1] + data
        self.events.append(("data", data))
        due, self.due = self.due, ()
        self.do(due)

    def connectionLost(self, reason: Failure = Failure(CONNECTION_DONE)) -> None:  # noqa: B008
        self.events.append(("lost", type(reason.value), str(reason.value)))
        self.op_write(10)

    def told(self) -> list[tuple[Any, ...]]:
        return [event for event in self.events if event[0] != "turn"]

    def do(self, operations: tuple[Operation, ...]) -> None:
        for name, *arguments in operations:
            getattr(self, f"op_{name}")(*arguments)

    def op_write(self, size: int) -> None:
        begin, self.taken = self.taken, self.taken + size
        self.transport.write(_STREAM[begin : self.taken])

    def op_sequence(self, size: int, times: int) -> None:
        begin, self.taken = self.taken, self.taken + size * times
        pieces = [_STREAM[at : at + size] for at in range(begin, self.taken, size)]
        self.transport.writeSequence(pieces)

    def op_wrong(self) -> None:
        for wrong in ("text", memoryview(b"x"), 3):
            try:
                self.transport.write(wrong)
            except TypeError:
                self.events.append(("refused",))

    def op_lose(self) -> None:
        self.transport.loseConnection()

    def op_abort(self) -> None:
        self.transport.abortConnection()

    def op_raise(self) -> None:
        raise ScriptedError

    def op_renegotiate(self) -> None:
        """Have TLS 1.2 begin a handshake; nothing can be written until it is complete."""
        connection = self.transport.getHandle()
        # OpenSSL begins later if it has read a part of a record, which we leave in its input.
        is_cut = self.boundaries.missing
        if connection.get_protocol_version_name() == "TLSv1.2" and not is_cut:
            connection.renegotiate()
            self.op_write(1)

    def op_push(self, size: int, times: int) -> None:
        if self.producer is None:
            self.producer = Pushing(self, size, times)
            self.transport.registerProducer(self.producer, True)
            self.producer.produce()

    def op_unregister(self) -> None:
        self.producer = None
        self.transport.unregisterProducer()


class Run:
    """One run of a script."""

    def __init__(self, script: Script, kind: type[Any]) -> None:
        self.is_lost = self.is_cut = False
        self.got = bytearray()
        self.end: str | None = None
        self.clock = Clock()
        self.beneath = Beneath(self)
        self.protocol = Scripted(script)
        factory = Factory.forProtocol(lambda: self.protocol)
        factory.noisy = False
        layered = TLSMemoryBIOFactory(_OWN, False, factory, self.clock)
        layered.protocol = kind
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_min_proto_version(script.version)
        context.set_max_proto_version(script.version)
        self.peer = SSL.Connection(context)
        self.peer.set_connect_state()
        self.tls: Any = layered.buildProtocol(None)
        self.attempt(self.tls.makeConnection, self.beneath)
        self.play(script)

    def play(self, script: Script) -> None:
        for _ in range(3):
            with suppress(SSL.Error):
                self.peer.do_handshake()
            self.deliver(self.ciphertext(), script.cuts)
        for step in script.steps:
            self.protocol.due = step.received
            self.deliver(self.of_peer(step.peer), step.cuts)
            if not self.is_lost:
                self.attempt(self.protocol.do, step.later)
                self.turn()
            # What the peer answers, as in a renegotiation: the next step is in the middle of it.
            self.deliver(self.ciphertext(), ())
        for _ in range(3):
            self.deliver(self.ciphertext(), ())
        if not self.is_lost:
            self.lose(CONNECTION_DONE)
            self.turn()

    def of_peer(self, operations: tuple[Operation, ...]) -> bytes:
        data = b""
        for name, *arguments in operations:
            if name == "garbage":
                data += self.ciphertext() + arguments[0]
                continue
            if name == "spoil":  # the last record
                data += self.ciphertext()
                data = data[:-1] + bytes([data[-1] ^ 1]) if data else data
                continue
            try:
                if name == "send":
                    self.peer.send(b"y" * arguments[0])
                elif name == "close":
                    self.peer.shutdown()
            except SSL.Error:  # it has ended already
                continue
        return data + self.ciphertext()

    def ciphertext(self) -> bytes:
        try:
            return self.peer.bio_read(1 << 20)
        except SSL.WantReadError:
            return b""

    def deliver(self, data: bytes, cuts: tuple[int, ...]) -> None:
        """Deliver what the peer has sent, in pieces."""
        places = sorted({each % len(data) for each in cuts}) if data else []
        for begin, end in zip([0, *places], [*places, len(data)], strict=True):
            if begin < end and not self.is_lost:
                self.protocol.boundaries.follow(data[begin:end])
                self.attempt(self.tls.dataReceived, data[begin:end])
                self.turn()

    def attempt(self, call: Callable[..., None], *arguments: Any) -> None:
        try:
            call(*arguments)
        except ScriptedError as error:  # as a reactor does
            self.is_cut = True
            self.lose(error)

    def turn(self) -> None:
        self.clock.advance(0)
        self.let_peer_read()
        self.protocol.events.append(("turn", len(self.got)))
        if self.beneath.ends is not None and not self.is_lost:
            self.lose(self.beneath.ends)

    def lose(self, reason: BaseException) -> None:
        self.is_lost = True
        if self.beneath.producer is not None:
            self.beneath.producer.stopProducing()
        self.tls.connectionLost(Failure(reason))

    def let_peer_read(self) -> None:
        while sent := self.beneath.turn():
            self.peer.bio_write(sent)
            self.read_as_peer()

    def read_as_peer(self) -> None:
        while self.end is None:
            try:
                self.got += self.peer.recv(1 << 16)
            except SSL.WantReadError:
                return
            except SSL.Error as error:
                self.end = type(error).__name__ + str(error)


def compare(script: Script, records: type[Any]) -> tuple[Run, Run]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tls, "records_of", records)
        ours = Run(script, tls.TLSTransport)
    twisteds = Run(script, tls_closing.Delivering)
    if ours.is_cut:
        # If a protocol raises an exception, Twisted loses what it keeps for the next turn.
        assert ours.protocol.told() == twisteds.protocol.told()
        assert ours.got.startswith(twisteds.got)
    else:
        assert ours.protocol.events == twisteds.protocol.events
        assert ours.got == twisteds.got
        assert ours.end == twisteds.end
    assert ours.beneath.ends.__class__ is twisteds.beneath.ends.__class__
    return ours, twisteds


def _step(*sizes: int, received: tuple[Operation, ...] = (), **others: Any) -> Step:
    return Step(peer=tuple(("send", size) for size in sizes), received=received, **others)


_ONE = _step(1)
_CHOSEN = {
    "messages": (_ONE, _step(2, 3, received=(("write", 5), ("write", 6))), _step(30_000, 10)),
    "cut": (_ONE, _step(300, 300, cuts=(1, 3, 100, 323, 326))),
    "abort between": (_ONE, _step(1, 2, received=(("write", 3), ("abort",)))),
    "lose between": (_ONE, _step(1, 2, received=(("write", 3), ("lose",), ("write", 4)))),
    "raise between": (_ONE, _step(1, 2, received=(("write", 3), ("raise",)))),
    "large": (_ONE, _step(1, received=(("write", 200_000),), later=(("write", 131_073),))),
    "renegotiate": (
        _step(1, later=(("renegotiate",),)),
        _step(later=(("write", 70_000),)),
        _step(1, received=(("write", 7),)),
    ),
    "renegotiate, then lose": (
        _step(1, later=(("renegotiate",),)),
        _step(later=(("write", 7), ("lose",))),
        _ONE,
    ),
    "renegotiate, then data": (
        _step(1, later=(("renegotiate",),)),
        _step(later=(("push", 30_000, 9),)),
        _step(1, received=(("write", 7),)),
    ),
    "too long": (_ONE, Step((("garbage", b"\x17\x03\x03\xff\xff" + bytes(100)),))),
    "no version": (_ONE, Step((("garbage", b"\x17\x04\x04\x00\x50" + bytes(10)),))),
    "old version": (_ONE, Step((("garbage", b"\x17\x03\x01\x00\x50" + bytes(10)),))),
    "no type": (_ONE, Step((("garbage", b"\x18\x03\x03\x00\x50" + bytes(10)),))),
    "wrong type": (_ONE, Step((("garbage", b"\x16\x03\x03\x00\x50" + bytes(10)),))),
    "empty": (_ONE, Step((("send", 1), ("garbage", b"\x17\x03\x03\x00\x00"), ("send", 1)))),
    "spoilt": (_ONE, Step((("send", 1), ("spoil",)), received=(("write", 9),))),
    "spoilt later": (_ONE, Step((("send", 1), ("send", 1), ("spoil",)), received=(("write", 9),))),
    "closed": (_ONE, Step((("send", 1), ("close",)), received=(("write", 9),))),
}


@pytest.mark.parametrize("version", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
@pytest.mark.parametrize("name", _CHOSEN)
def test_a_chosen_script_has_the_same_effects(name: str, version: int) -> None:
    for records in (tls_records.PublicRecords, tls_records.DirectRecords):
        ours, _ = compare(Script(version, steps=_CHOSEN[name]), records)
        assert ("handshake",) in ours.protocol.events
        assert ("turn", 0) in ours.protocol.events
        assert any(event[0] == "data" for event in ours.protocol.events)


def test_scripts_reach_what_they_are_about() -> None:
    ours, _ = compare(
        Script(SSL.TLS1_2_VERSION, steps=_CHOSEN["renegotiate"]), tls_records.DirectRecords
    )
    assert len(ours.got) == 1 + 70_000 + 7
    assert ours.got == _STREAM[: len(ours.got)]


_sizes = st.one_of(st.integers(1, 200), st.sampled_from([16384, 16385, 40_000, 70_000, 200_000]))
_cuts = st.lists(st.integers(0, 1 << 20), max_size=4).map(tuple)
_operations = st.lists(
    st.one_of(
        st.tuples(st.just("write"), _sizes),
        st.tuples(st.just("write"), st.just(0)),
        st.tuples(st.just("sequence"), st.integers(1, 100), st.integers(0, 3)),
        st.tuples(st.just("push"), _sizes, st.integers(0, 6)),
        st.sampled_from(
            [("lose",), ("abort",), ("raise",), ("wrong",), ("renegotiate",), ("unregister",)]
        ),
    ),
    max_size=3,
).map(tuple)
_peer = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(1, 100)),
        st.tuples(st.just("send"), _sizes),
        st.sampled_from([("close",), ("spoil",)]),
        st.tuples(
            st.just("garbage"),
            st.one_of(
                st.binary(min_size=1, max_size=30),
                st.sampled_from(
                    [
                        b"\x17\x03\x03\x00\x00",
                        b"\x17\x03\x03\x00\x05hello",
                        b"\x17\x03\x03\xff\xff",
                        b"\x17\x03\x01\x00\x20" + bytes(32),
                        b"\x15\x03\x03\x00\x02\x01\x00",
                        b"\x16\x03\x03\x00\x04\x00\x00\x00\x00",
                        b"\x14\x03\x03\x00\x01\x01",
                        b"GET / HTTP/1.0\r\n\r\n",
                    ]
                ),
            ),
        ),
    ),
    max_size=5,
).map(tuple)
_scripts = st.builds(
    Script,
    version=st.sampled_from([SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION]),
    made=_operations,
    cuts=_cuts,
    steps=st.lists(
        st.builds(Step, peer=_peer, cuts=_cuts, received=_operations, later=_operations),
        min_size=1,
        max_size=4,
    ).map(tuple),
)


@pytest.mark.parametrize("records", [tls_records.PublicRecords, tls_records.DirectRecords])
def test_a_script_has_the_same_effects(records: type[Any]) -> None:
    @settings(max_examples=300, derandomize=True, deadline=None)
    @given(script=_scripts)
    def has_the_same_effects(script: Script) -> None:
        compare(script, records)

    has_the_same_effects()
