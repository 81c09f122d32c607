from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.testing import StringTransport

from sockservices.printable import escaped
from sockservices.services.ack import AckFactory, Acknowledge
from sockservices.testing import StreamServiceContract
from tests.fakes import Source, connected, output_to, pipe_at, read_pipe, with_reactor

reactor: Any = _reactor
_PREFIX = "Here is the message: "


def _received(factory: AckFactory, *parts: bytes) -> StringTransport:
    transport = StringTransport()
    protocol = connected(factory.buildProtocol(None), transport)
    for part in parts:
        protocol.dataReceived(part)
    return transport


def test_the_first_read_is_printed_answered_and_the_connection_closed(
    capfd: pytest.CaptureFixture[str],
) -> None:
    transport = _received(AckFactory(), b"hello\n")
    assert capfd.readouterr().out == "Here is the message: hello\n"
    assert transport.value() == b"I got your message"
    assert transport.disconnecting


def test_nobody_is_answered_before_he_said_something(capfd: pytest.CaptureFixture[str]) -> None:
    transport = _received(AckFactory())
    assert transport.value() == b""
    assert not transport.disconnecting
    assert capfd.readouterr().out == ""


def test_what_comes_after_the_first_read_is_left(capfd: pytest.CaptureFixture[str]) -> None:
    transport = _received(AckFactory(), b"one", b"two")
    assert capfd.readouterr().out == "Here is the message: one\n"
    assert transport.value() == b"I got your message"


@pytest.mark.parametrize(
    ("sent", "shown"),
    [(b"a\r\n", "a"), (b"a\n\n", r"a\n"), (b"\n", ""), (b"a\r", "a"), (b"a\nb\n", r"a\nb")],
)
def test_one_line_end_of_the_message_is_left_out(
    sent: bytes, shown: str, capfd: pytest.CaptureFixture[str]
) -> None:
    _received(AckFactory(), sent)
    assert capfd.readouterr().out == f"{_PREFIX}{shown}\n"


@given(st.binary(min_size=1))
def test_any_message_is_printed_as_one_printable_line(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "printed")
        with output_to(path) as output:
            protocol = Acknowledge(b"ok", output)
            connected(protocol, StringTransport())
            protocol.dataReceived(data)
        printed = path.read_bytes().decode()
    assert printed.endswith("\n")
    line = printed[:-1]
    assert line.isprintable()
    assert line in {
        _PREFIX + escaped(data.removesuffix(end)) for end in (b"", b"\n", b"\r", b"\r\n")
    }


@given(st.text())
def test_any_reply_is_sent_as_it_is(reply: str) -> None:
    transport = StringTransport()
    factory = AckFactory(reply=reply.replace("\\", "\\\\"))
    with tempfile.TemporaryDirectory() as folder, output_to(Path(folder, "printed")) as output:
        factory._output = output
        protocol = connected(factory.buildProtocol(None), transport)
        protocol.dataReceived(b"?")
    assert transport.value() == reply.encode()


@with_reactor
async def test_nothing_is_acknowledged_that_is_not_printed(tmp_path: Path) -> None:
    transport = StringTransport(lenient=True)
    with pipe_at(tmp_path / "pipe") as reading, output_to(tmp_path / "pipe", print) as output:
        full = Source()
        while not full.told:
            output.write(b"." * 4096, full)
        protocol = connected(Acknowledge(b"ok", output), transport)
        protocol.dataReceived(b"hello")
        assert (transport.value(), transport.disconnecting) == (b"", False)
        printed: Deferred[None] = Deferred()
        output.write(b"", written=lambda: printed.callback(None))
        received = read_pipe(reading)
        await printed
        await deferLater(reactor, 0)  # past the turn in which the output is written
        assert (transport.value(), transport.disconnecting) == (b"ok", True)
        assert (received + read_pipe(reading)).endswith(b"Here is the message: hello\n")


def test_a_reply_that_is_no_utf_8_is_sent_byte_by_byte() -> None:
    # As a command line gives it: PEP 383.
    assert _received(AckFactory(reply="\udcff"), b"hello").value() == b"\xff"


def test_a_message_that_nobody_reads_pauses_its_source(tmp_path: Path) -> None:
    with pipe_at(tmp_path / "pipe"), output_to(tmp_path / "pipe", print) as output:
        full = Source()
        while not full.told:
            output.write(b"." * 4096, full)
        transport = StringTransport()
        connected(Acknowledge(b"ok", output), transport).dataReceived(b"hello")
        assert transport.producerState == "paused"


class TestAck(StreamServiceContract):
    factory = AckFactory
    examples = (b"hello\n",)
