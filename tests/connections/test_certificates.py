"""TLS of a host, as its clients negotiate it."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
from cryptography import x509
from twisted.internet.interfaces import (
    IOpenSSLServerConnectionCreator,
    IProtocolNegotiationFactory,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import CertificateOptions
from twisted.internet.threads import deferToThread
from zope.interface import implementer

from sockservices.connections.certificates import read_certificates
from sockservices.connections.parts import at_once
from sockservices.connections.tls import TLS
from sockservices.host.host import SocketService
from sockservices.services.echo import EchoFactory
from tests.certificates import make_certificate, pem_of
from tests.fakes import with_reactor

# Later ones let what makes the connections do it, which is ours.
CHOOSES = IOpenSSLServerConnectionCreator.implementedBy(CertificateOptions)


@implementer(IProtocolNegotiationFactory)
class Choosing(Factory):
    protocol = Protocol

    def acceptableProtocols(self) -> list[bytes]:  # noqa: N802 - Twisted's name
        return [b"best", b"good"]


def _negotiated(port: int, offered: list[str]) -> str | None:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if offered:
        context.set_alpn_protocols(offered)
    with socket.create_connection(("127.0.0.1", port), 30) as plain:
        with context.wrap_socket(plain) as client:
            return client.selected_alpn_protocol()


@pytest.mark.parametrize(
    ("factory", "expected"),
    [
        (Choosing, {"good best": "best", "other good": "good", "": None}),
        (EchoFactory, {"good best": None, "": None}),
        pytest.param(
            *(Choosing, {"other": None}),
            marks=pytest.mark.skipif(not CHOOSES, reason="this Twisted chooses by itself"),
        ),
    ],
)
@with_reactor
async def test_the_best_protocol_is_negotiated_that_both_speak(
    tmp_path: Path, factory: Any, expected: dict[str, str | None]
) -> None:
    make_certificate(tmp_path)
    certificate = TLS(
        tls_cert=str(tmp_path / "trusted/cert.pem"), tls_key=str(tmp_path / "key.pem")
    )
    service = SocketService(factory(), ["tcp:0:interface=127.0.0.1"], certificate)
    service.startService()
    [address] = await service.when_listening()
    negotiated: dict[str, Any] = {}
    for offered in expected:
        negotiated[offered] = await deferToThread(_negotiated, address.port, offered.split())
    assert negotiated == expected
    await service.stopService()


def test_all_of_it_may_be_in_one_file(tmp_path: Path) -> None:
    make_certificate(tmp_path)
    key, chain = (tmp_path / name for name in ("key.pem", "trusted/cert.pem"))
    for order in ((key, chain), (chain, key)):
        both = tmp_path / "both.pem"
        both.write_text("Some words before.\n" + "".join(each.read_text() for each in order))
        at_once(read_certificates([str(both)]))


def test_every_issuer_in_a_file_is_one(tmp_path: Path) -> None:
    issuers = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        make_certificate(tmp_path / name, name)
        issuers.append((tmp_path / name / "trusted/cert.pem").read_text())
    (tmp_path / "issuers.pem").write_text("".join(issuers))
    certificate, key, issuers_file = (
        str(tmp_path / each) for each in ("one/trusted/cert.pem", "one/key.pem", "issuers.pem")
    )
    at_once(read_certificates([certificate], [key], issuers_file))
    (tmp_path / "issuers.pem").write_text("none")
    with pytest.raises(ValueError, match=r"issuers\.pem contains no PEM certificate"):
        at_once(read_certificates([certificate], [key], issuers_file))


class Several:
    """A service with several certificates, and what its clients get of it."""

    def __init__(self, folder: Path, factory: Any = None, **tls: Any) -> None:
        for number, names in enumerate(NAMES):
            (folder / f"{number}.pem").write_text("".join(pem_of(*names)))
        certificates = TLS(tls_cert=[str(folder)], **tls)
        self._service = SocketService(
            factory or EchoFactory(), ["tcp:0:interface=127.0.0.1"], certificates
        )

    async def __aenter__(self) -> Several:
        self._service.startService()
        [self.address] = await self._service.when_listening()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._service.stopService()

    async def ask(self, name: str | None, **options: Any) -> Shown:
        return await deferToThread(_ask, self.address.port, name, **options)


NAMES = [
    ["first", "first.example", "also.first.example"],
    ["second", "www.example", "*.example"],
    ["third", "*.example", "*.third.example"],
]


@attrs.frozen
class Shown:
    name: str
    protocol: str | None
    session: Any
    is_resumed: bool | None


def _ask(
    port: int,
    name: str | None,
    *,
    most: str = "TLSv1_3",
    offered: Sequence[str] = (),
    session: Any = None,
    context: ssl.SSLContext | None = None,
) -> Shown:
    context = context or _client_context()
    context.maximum_version = ssl.TLSVersion[most]
    if offered:
        context.set_alpn_protocols(offered)
    with socket.create_connection(("127.0.0.1", port), 30) as plain:
        with context.wrap_socket(plain, server_hostname=name, session=session) as client:
            client.sendall(b"x")
            assert client.recv(1) == b"x"
            shown = x509.load_der_x509_certificate(client.getpeercert(True) or b"")
            [common] = shown.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
            protocol = client.selected_alpn_protocol()
            return Shown(str(common.value), protocol, client.session, client.session_reused)


def _client_context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@pytest.mark.parametrize("most", ["TLSv1_2", "TLSv1_3"])
@with_reactor
async def test_the_name_that_a_client_asks_for_selects_the_certificate(
    tmp_path: Path, most: str
) -> None:
    names = {
        "first.example": "first",
        "ALSO.first.example": "first",
        "www.example": "second",
        "other.example": "second",  # the first with such a wildcard
        "a.third.example": "third",
        "a.b.third.example": "first",  # a wildcard is for one label
        "third.example": "second",
        "elsewhere": "first",
        None: "first",
    }
    async with Several(tmp_path) as several:
        for name, expected in names.items():
            assert (await several.ask(name, most=most)).name == expected, name


@pytest.mark.parametrize("most", ["TLSv1_2", "TLSv1_3"])
@pytest.mark.parametrize("name", ["first.example", "www.example"])
@with_reactor
async def test_every_certificate_has_sessions_and_protocols(
    tmp_path: Path, most: str, name: str
) -> None:
    context = _client_context()
    async with Several(tmp_path, _EchoingChoosing()) as several:
        first = await several.ask(name, most=most, offered=["good"], context=context)
        again = await several.ask(name, most=most, session=first.session, context=context)
    assert (first.protocol, first.is_resumed) == ("good", False)
    assert (again.name, again.is_resumed) == (first.name, True)


@implementer(IProtocolNegotiationFactory)
class _EchoingChoosing(EchoFactory):
    def acceptableProtocols(self) -> list[bytes]:  # noqa: N802 - Twisted's name
        return [b"best", b"good"]


@pytest.mark.parametrize("name", ["first.example", "www.example"])
@with_reactor
async def test_clients_need_a_certificate_for_every_name(tmp_path: Path, name: str) -> None:
    own, own_key = pem_of("client")
    ca, both = tmp_path / "ca", tmp_path / "both"
    ca.write_text(own)
    both.write_text(own + own_key)
    async with Several(tmp_path, tls_client_ca=str(ca)) as several:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await several.ask(name)
        context = _client_context()
        context.load_cert_chain(both)
        await several.ask(name, context=context)
