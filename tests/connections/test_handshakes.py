"""Each way in which a handshake fails has words, and a number in the totals."""

from __future__ import annotations

import socket
import ssl
import struct
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThread

from sockservices.connections.ledger import REASONS
from sockservices.connections.parts import Part
from sockservices.connections.timeouts import Timeouts
from sockservices.connections.tls import TLS
from sockservices.host.host import SocketService
from sockservices.services.echo import EchoFactory
from sockservices.services.hello import HelloFactory
from tests.certificates import make_certificate, make_expired
from tests.fakes import logged, until, with_reactor
from tests.system.processes import needs

pytestmark = needs("openssl")

CERT, KEY = "trusted/cert.pem", "key.pem"
Client = Callable[[int, Path], object]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    make_certificate(folder)
    make_expired(folder)
    (folder / "other").mkdir()
    make_certificate(folder / "other", "other")
    return folder


def _connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), 30)


def _sends(data: bytes, *, waits: bool = True) -> Client:
    def send(port: int, _folder: Path) -> None:
        with suppress(ConnectionResetError), _connect(port) as client:
            client.sendall(data)
            while waits and client.recv(100):
                pass

    return send


def _resets(port: int, _folder: Path) -> None:
    with _connect(port) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _openssl(*options: str) -> Client:
    def connect(port: int, folder: Path) -> None:
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", *options]
        subprocess.run(command, cwd=folder, input=b"", capture_output=True, check=False)

    return connect


def _verifies(trusted: str | None, name: str, *, at_most: str = "TLSv1_3") -> Client:
    def connect(port: int, folder: Path) -> None:
        context = ssl.create_default_context(cafile=trusted and folder / trusted)
        context.maximum_version = ssl.TLSVersion[at_most]
        with _connect(port) as plain, pytest.raises(ssl.SSLCertVerificationError):
            context.wrap_socket(plain, server_hostname=name)

    return connect


async def _outcome(
    folder: Path,
    client: Client,
    *parts: Part,
    factory: Any = None,
    listen: Sequence[str] = ("tcp:0:interface=127.0.0.1",),
    has_tls: bool = True,
    **tls: str,
) -> tuple[list[str], dict[str, int]]:
    """Return what is logged of a client, in words, and how its connection is counted."""
    if has_tls:
        files = {"tls_cert": CERT, "tls_key": KEY, **tls}
        parts = (TLS(**{name: str(folder / file) for name, file in files.items()}), *parts)
    service = SocketService(factory or EchoFactory(), listen, *parts)
    service.startService()
    [address] = await service.when_listening()
    with logged() as events:
        await deferToThread(client, address.port, folder)
        await until(lambda: service.ledger.totals.closed and not service.ledger.live)
    await service.stopService()
    told = [each for each in events if "cause" in each]
    assert all(each["peer"].startswith("127.0.0.1, port ") for each in told)
    assert not any("log_failure" in each for each in events)
    return [f"{each['cause']}: {each['reason']}" for each in told], service.ledger.totals.closed


OLD = ("-tls1_1", "-cipher", "ALL:@SECLEVEL=0")


@pytest.mark.parametrize(
    ("client", "words"),
    [
        (_sends(b"GET / HTTP/1.0\r\n\r\n"), "the client speaks HTTP without TLS"),
        (_sends(b"SSH-2.0-OpenSSH_9.2\r\n"), "the client does not speak TLS"),
        (_sends(b"\0" * 100), "the client does not speak TLS"),
        (_sends(b"", waits=False), "the client closed the connection before it sent anything"),
        (_resets, "the client reset the connection before it sent anything"),
        (
            _sends(b"\x16\x03\x01\x02\0\x01", waits=False),
            "the client closed the connection during the TLS handshake",
        ),
        (_openssl(*OLD), "the client supports only versions of TLS before 1.2"),
        (
            _openssl("-tls1_2", "-cipher", "AES128-SHA"),
            "the client supports none of the ciphers of this service",
        ),
        (
            _verifies(None, "localhost"),
            "the client does not trust the issuer of this service's certificate",
        ),
        (
            _verifies(None, "localhost", at_most="TLSv1_2"),
            "the client does not trust the issuer of this service's certificate",
        ),
        (_verifies(CERT, "another"), "the client does not accept this service's certificate"),
    ],
)
@with_reactor
async def test_what_a_client_did_wrong_is_told(folder: Path, client: Client, words: str) -> None:
    told, closed = await _outcome(folder, client)
    assert told == [f"handshake: {words}"]
    assert closed == {"handshake": 1}


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        ((), "the client has no certificate (--tls-client-ca)"),
        (("expired.pem", KEY), "the client's certificate has expired"),
        (
            ("other/trusted/cert.pem", "other/key.pem"),
            "the client's certificate is not signed by an issuer in --tls-client-ca, but by itself",
        ),
    ],
)
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@with_reactor
async def test_what_is_wrong_with_its_certificate_is_told(
    folder: Path, shown: tuple[str, ...], words: str, version: str
) -> None:
    options = [part for pair in zip(("-cert", "-key"), shown, strict=False) for part in pair]
    client = _openssl(version, *options)
    told, closed = await _outcome(folder, client, tls_client_ca=CERT)
    assert told == [f"handshake: {words}"]
    assert closed == {"handshake": 1}


@with_reactor
async def test_one_that_is_too_slow_is_told(folder: Path) -> None:
    told, closed = await _outcome(folder, _sends(b"\x16"), Timeouts(handshake_timeout=0.05))
    assert told == [
        "handshake-timeout: the TLS handshake or PROXY header took longer than --handshake-timeout"
    ]
    assert closed == {"handshake-timeout": 1}


# Twisted's own, with a recent pyOpenSSL.
@pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")
@with_reactor
async def test_twisteds_own_listeners_tell_it_as_well(folder: Path) -> None:
    ssl_listener = f"ssl:0:interface=127.0.0.1:certKey={folder / CERT}:privateKey={folder / KEY}"
    told, closed = await _outcome(
        folder, _sends(b"GET / HTTP/1.0\r\n\r\n"), listen=[ssl_listener], has_tls=False
    )
    assert told == ["handshake: the client speaks HTTP without TLS"]
    assert closed == {"handshake": 1}


@with_reactor
async def test_a_service_that_has_closed_already_does_not_hide_it(folder: Path) -> None:
    told, closed = await _outcome(folder, _verifies(None, "localhost"), factory=HelloFactory())
    assert told == ["handshake: the client does not trust the issuer of this service's certificate"]
    assert closed == {"handshake": 1}


@with_reactor
async def test_a_service_that_wants_no_connection_is_no_failure(folder: Path) -> None:
    class Closing(Protocol):
        def connectionMade(self) -> None:
            assert self.transport is not None
            self.transport.loseConnection()

    factory = Factory.forProtocol(Closing)
    factory.noisy = False
    told, closed = await _outcome(folder, _sends(b""), factory=factory)
    assert (told, closed) == ([], {"aborted": 1})


@with_reactor
async def test_nothing_is_told_of_one_that_succeeds(folder: Path) -> None:
    def talk(port: int, folder: Path) -> None:
        context = ssl.create_default_context(cafile=folder / CERT)
        with context.wrap_socket(_connect(port), server_hostname="localhost") as client:
            client.sendall(b"x")
            assert client.recv(1) == b"x"

    told, closed = await _outcome(folder, talk)
    assert (told, closed) == ([], {"closed": 1})


HAPROXY = ["haproxy:tcp:0:interface=127.0.0.1"]
HEADER = b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 2000\r\n"
SOON = Timeouts(handshake_timeout=0.05)
TOO_LATE = "the TLS handshake or PROXY header took longer than --handshake-timeout"


@pytest.mark.parametrize(
    ("sent", "parts", "told"),
    [
        (b"", [SOON], f"handshake-timeout: {TOO_LATE}"),
        (HEADER, [SOON], f"handshake-timeout: {TOO_LATE}"),
        (HEADER + b"GET /", [], "handshake: the client speaks HTTP without TLS"),
        (b"GET / HTTP/1.0\r\n", [], f"proxy-header: {REASONS['proxy-header']}"),
    ],
)
@with_reactor
async def test_behind_twisteds_own_headers(
    folder: Path, sent: bytes, parts: list[Part], told: str
) -> None:
    found, closed = await _outcome(folder, _sends(sent), *parts, listen=HAPROXY)
    assert found == [told]
    assert closed == {told.partition(":")[0]: 1}


@pytest.mark.parametrize(
    ("sent", "waits", "parts", "cause"),
    [
        (b"", True, [SOON], "handshake-timeout"),
        (HEADER[:10], True, [SOON], "handshake-timeout"),
        (b"", False, [], "proxy-header"),
        (HEADER[:10], False, [], "proxy-header"),
        (b"GET / HTTP/1.0\r\n", True, [], "proxy-header"),
        (HEADER, False, [SOON], "closed"),
    ],
)
@with_reactor
async def test_twisteds_own_headers_have_their_time(
    folder: Path, sent: bytes, waits: bool, parts: list[Part], cause: str
) -> None:
    client = _sends(sent, waits=waits)
    told, closed = await _outcome(folder, client, *parts, listen=HAPROXY, has_tls=False)
    assert [each.partition(":")[0] for each in told] == ([] if cause == "closed" else [cause])
    assert closed == {cause: 1}


@with_reactor
async def test_a_service_that_closes_before_the_header_is_no_failure(folder: Path) -> None:
    told, closed = await _outcome(
        folder, _sends(b""), factory=HelloFactory(), listen=HAPROXY, has_tls=False
    )
    assert (told, closed) == ([], {"closed": 1})
