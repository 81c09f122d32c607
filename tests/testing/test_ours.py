"""The services here hold to their contracts."""

from __future__ import annotations

from sockservices import (
    AckFactory,
    CounterFactory,
    EchoFactory,
    HelloFactory,
    HexdumpFactory,
)
from sockservices.testing import DatagramServiceContract, StreamServiceContract


class TestEcho(StreamServiceContract):
    factory = EchoFactory
    examples = (b"hello\n",)


class TestDatagramEcho(DatagramServiceContract):
    factory = EchoFactory


class TestCounter(StreamServiceContract):
    factory = CounterFactory


class TestHello(StreamServiceContract):
    factory = HelloFactory


class TestAck(StreamServiceContract):
    factory = AckFactory
    examples = (b"hello\n",)


class TestHexdump(StreamServiceContract):
    factory = HexdumpFactory


class TestDatagramHexdump(DatagramServiceContract):
    factory = HexdumpFactory
