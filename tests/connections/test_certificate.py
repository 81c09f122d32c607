"""TLS of a host, as its clients negotiate it."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.interfaces import (
    IOpenSSLServerConnectionCreator,
    IProtocolNegotiationFactory,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import CertificateOptions
from twisted.internet.threads import deferToThread
from zope.interface import implementer

from sockservices.connections.certificate import Certificate
from sockservices.connections.tls import TLS
from sockservices.host.host import SocketService
from sockservices.services.echo import EchoFactory
from tests.certificates import make_certificate
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
        Certificate(str(both))


def test_every_issuer_in_a_file_is_one(tmp_path: Path) -> None:
    issuers = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        make_certificate(tmp_path / name, name)
        issuers.append((tmp_path / name / "trusted/cert.pem").read_text())
    (tmp_path / "issuers.pem").write_text("".join(issuers))
    files = [
        str(tmp_path / each) for each in ("one/trusted/cert.pem", "one/key.pem", "issuers.pem")
    ]
    Certificate(*files)
    (tmp_path / "issuers.pem").write_text("none")
    with pytest.raises(ValueError, match=r"issuers\.pem contains no PEM certificate"):
        Certificate(*files)
