"""TLS over eager TCP: from the beginning, started late, and behind Twisted's PROXY wrapper."""

from __future__ import annotations

import gc
import os
import socket
import ssl
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.endpoints import serverFromString
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.protocol import ClientFactory, Factory, Protocol
from twisted.internet.ssl import CertificateOptions, DefaultOpenSSLContextFactory
from twisted.protocols import tls
from twisted.protocols.tls import TLSMemoryBIOFactory

from sockservices.transports import EagerReactor, EagerStreams, deliver_at_the_end, tcp
from tests.certificates import make_certificate
from tests.transports.fresh_process import python
from tests.transports.reactors import started, turn_until

MESSAGE = os.urandom(1 << 20)


@pytest.fixture(params=[EPollReactor, EagerReactor])
def reactor(request: Any) -> Any:
    with started(request.param) as made:
        yield made


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("certificate")
    make_certificate(folder)
    return DefaultOpenSSLContextFactory(*_files(folder))


def _files(folder: Path) -> tuple[str, str]:
    return str(folder / "key.pem"), str(folder / "trusted/cert.pem")


def _streams(reactor: Any) -> Any:
    return reactor if isinstance(reactor, EagerReactor) else EagerStreams(reactor)


class Collecting(Protocol):
    """Keeps what it gets; writes the message, and closes when it has it back."""

    transport: Any

    def __init__(self) -> None:
        self.got = b""
        self.is_lost = False

    def dataReceived(self, data: bytes) -> None:
        self.got += data

    def connectionLost(self, reason: Any = None) -> None:
        self.is_lost = True


class Echoing(Protocol):
    transport: Any

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)


def _client(protocol: Protocol) -> ClientFactory:
    factory = ClientFactory()
    factory.protocol = lambda: protocol
    factory.noisy = False
    return factory


def left_after_an_abrupt_end(make: Any, certificate: Any) -> set[Any]:
    """Return what is left of TLS that a peer has ended without close_notify."""
    lost: list[Any] = []

    class Producing(Echoing):
        def connectionMade(self) -> None:
            self.transport.registerProducer(self.transport, True)

        def connectionLost(self, reason: Any = None) -> None:
            lost.append(weakref.ref(self.transport._tlsConnection))
            if hasattr(tls, "_NullAggregator"):  # older releases keep it themselves
                lost.append(weakref.ref(self.transport))
            self.transport = None

    with started(make) as reactor:
        streams, client = _streams(reactor), Collecting()
        factory = TLSMemoryBIOFactory(certificate, False, Factory.forProtocol(Producing), reactor)
        deliver_at_the_end(factory)
        port = streams.listenTCP(0, factory, interface="127.0.0.1")
        streams.connectSSL("127.0.0.1", port.getHost().port, _client(client), CertificateOptions())
        turn_until(reactor, lambda: client.transport)
        client.transport.write(MESSAGE)
        turn_until(reactor, lambda: len(client.got) == len(MESSAGE))
        gc.collect()
        gc.disable()
        client.transport.transport.loseConnection()  # of TCP alone
        turn_until(reactor, lambda: lost)
        reactor.iterate(0)
        return {each() for each in lost}


@pytest.mark.parametrize("make", ["EPollReactor", "EagerReactor"])
def test_without_close_notify_it_is_freed_as_soon_as_it_has_ended(
    make: str, tmp_path: Path
) -> None:
    make_certificate(tmp_path)
    # pytest-twisted has failures keep their traceback, and so whatever it leads to.
    result = python(
        "from tests.transports.test_tls_closing import *\n"
        f"certificate = DefaultOpenSSLContextFactory(*{_files(tmp_path)})\n"
        f"print(left_after_an_abrupt_end({make}, certificate))"
    )
    assert result.stdout == "{None}\n", result.stderr


def test_from_the_beginning(reactor: Any, certificate: Any) -> None:
    streams, servers = _streams(reactor), []

    def build() -> Protocol:
        servers.append(Echoing())
        return servers[-1]

    port = streams.listenSSL(0, Factory.forProtocol(build), certificate, interface="127.0.0.1")
    client = Collecting()
    streams.connectSSL("127.0.0.1", port.getHost().port, _client(client), CertificateOptions())
    turn_until(reactor, lambda: client.transport)
    client.transport.write(MESSAGE)
    turn_until(reactor, lambda: len(client.got) == len(MESSAGE))
    assert client.got == MESSAGE
    assert type(servers[0].transport.transport) is tcp.Server
    assert type(client.transport.transport) is tcp.Client
    client.transport.loseConnection()
    turn_until(reactor, lambda: client.is_lost)


def test_started_late(reactor: Any, certificate: Any) -> None:
    """As STARTTLS of SMTP: a line each way in the clear, and then the handshake."""
    streams = _streams(reactor)

    class Starting(Echoing):
        def dataReceived(self, data: bytes) -> None:
            if data == b"STARTTLS\n":
                self.transport.write(b"go ahead\n")
                self.transport.startTLS(certificate)
                self.dataReceived = super().dataReceived  # type: ignore[method-assign]

    port = streams.listenTCP(0, Factory.forProtocol(Starting), interface="127.0.0.1")
    client = Collecting()
    streams.connectTCP("127.0.0.1", port.getHost().port, _client(client))
    turn_until(reactor, lambda: client.transport)
    client.transport.write(b"STARTTLS\n")
    turn_until(reactor, lambda: client.got == b"go ahead\n")
    client.got = b""
    client.transport.startTLS(CertificateOptions())
    client.transport.writeSequence([MESSAGE[:10], MESSAGE[10:]])
    turn_until(reactor, lambda: len(client.got) == len(MESSAGE))
    assert client.got == MESSAGE
    client.transport.loseConnection()
    turn_until(reactor, lambda: client.is_lost)


def test_behind_twisteds_proxy_wrapper(reactor: Any) -> None:
    ports: list[Any] = []
    endpoint = serverFromString(_streams(reactor), "haproxy:tcp:0:interface=127.0.0.1")
    endpoint.listen(Factory.forProtocol(Echoing)).addCallback(ports.append)
    (port,) = ports
    assert type(port) is tcp.Port
    address: Any = port.getHost()
    with socket.create_connection((address.host, address.port)) as client:
        client.sendall(b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 2000\r\nhello")
        client.setblocking(False)
        got: list[bytes] = []

        def has_come() -> list[bytes]:
            with suppress(BlockingIOError):
                got.append(client.recv(100))
            return got

        turn_until(reactor, has_come)
    assert got == [b"hello"]


class Producing(Echoing):
    """An echo whose reading is paused while its answers wait, as that of ``sock-echo``."""

    def __init__(self) -> None:
        self.is_stopped = self.is_lost = False
        self.pauses = 0

    def connectionMade(self) -> None:
        self.transport.registerProducer(self, True)

    def pauseProducing(self) -> None:
        self.pauses += 1
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        self.transport.resumeProducing()

    def stopProducing(self) -> None:
        self.is_stopped = True

    def connectionLost(self, reason: Any = None) -> None:
        self.is_lost = True


@pytest.mark.parametrize("is_eager", [True, False])
def test_a_paused_producer_does_not_outlive_tls(
    reactor: Any, certificate: Any, is_eager: bool
) -> None:
    server = Producing()
    factory: Any = Factory.forProtocol(lambda: server)
    layered = TLSMemoryBIOFactory(certificate, False, factory)
    deliver_at_the_end(layered)
    streams = _streams(reactor) if is_eager else reactor
    port = streams.listenTCP(0, layered, interface="127.0.0.1")
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    tls = context.wrap_bio(incoming, outgoing)
    with socket.create_connection(("127.0.0.1", port.getHost().port)) as client:
        client.setblocking(False)

        def attempt(step: Any) -> bool:
            """Take a step of TLS, if what it needs has come; send what it makes."""
            with suppress(BlockingIOError):
                incoming.write(client.recv(1 << 16))
            with suppress(ssl.SSLWantReadError):
                step()
                return True
            client.sendall(outgoing.read())
            return False

        turn_until(reactor, lambda: attempt(tls.do_handshake))
        # The message and the end in one piece, so that the echo is paused when the end is read.
        tls.write(MESSAGE[:200_000])
        with suppress(ssl.SSLWantReadError):
            tls.unwrap()
        client.setblocking(True)
        client.sendall(outgoing.read())
        client.setblocking(False)
        received = bytearray()

        def has_ended() -> bool:
            with suppress(BlockingIOError):
                received.extend(client.recv(1 << 20))
            return server.is_lost

        turn_until(reactor, has_ended)
    assert server.pauses
    assert server.is_stopped
    assert len(received) > 200_000
