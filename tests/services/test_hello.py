from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.testing import StringTransport

from sockservices.services.hello import HelloFactory
from sockservices.testing import StreamServiceContract
from tests.fakes import connected


def _greeted(factory: HelloFactory) -> StringTransport:
    transport = StringTransport()
    connected(factory.buildProtocol(None), transport)
    return transport


def test_each_connection_is_greeted_and_closed() -> None:
    factory = HelloFactory()
    for _ in range(2):
        transport = _greeted(factory)
        assert transport.value() == b"Hello, world!\n"
        assert transport.disconnecting


@given(st.text())
def test_any_message_is_sent_as_it_is(message: str) -> None:
    factory = HelloFactory(message=message.replace("\\", "\\\\"))
    assert _greeted(factory).value() == message.encode()


@given(st.binary().filter(lambda raw: b"\\" not in raw))
def test_bytes_of_a_command_line_are_sent_as_they_were_typed(raw: bytes) -> None:
    message = raw.decode("utf-8", "surrogateescape")
    assert os.fsencode(message) == raw
    assert _greeted(HelloFactory(message=message)).value() == raw


def test_a_message_has_escapes() -> None:
    assert _greeted(HelloFactory(message=r"a\tb\n")).value() == b"a\tb\n"
    with pytest.raises(ValueError, match="is not an escape"):
        HelloFactory(message=r"\q")


class TestHello(StreamServiceContract):
    factory = HelloFactory
