from __future__ import annotations

from typing import Any

import pytest
from OpenSSL import SSL
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import CertificateOptions
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.protocols.haproxy._wrapper import HAProxyWrappingFactory
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.protocols.tls import TLSMemoryBIOFactory

from sockservices.transports import deliver_at_the_end
from sockservices.transports.layers import layers_of

_HEADER = b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 2000\r\n"


def _wrapped(*kinds: str) -> tuple[Any, Any]:
    """Return a protocol in such layers, the outermost last, and that protocol itself."""
    factory: Any = Factory.forProtocol(Protocol)
    for kind in kinds:
        if kind == "tls":
            factory = TLSMemoryBIOFactory(CertificateOptions(), False, factory, Clock())
            deliver_at_the_end(factory)
        else:
            wrap: Any = {"proxy": HAProxyWrappingFactory, "other": WrappingFactory}[kind]
            factory = wrap(factory)
    built = served = factory.buildProtocol(None)
    while isinstance(served, ProtocolWrapper):
        served = served.wrappedProtocol
    return built, served


@pytest.mark.parametrize("kinds", [[], ["other"], ["other", "other"]])
def test_a_connection_without_them_has_none(kinds: list[str]) -> None:
    assert layers_of(*_wrapped(*kinds)) is None


def test_what_is_inside_the_services_protocol_is_its_own_affair() -> None:
    built, _served = _wrapped("tls")
    assert layers_of(built, built) is None


@pytest.mark.parametrize("kinds", [["tls"], ["other", "tls"], ["tls", "other"]])
def test_tls_is_found_and_ends_with_its_error(kinds: list[str]) -> None:
    built, served = _wrapped(*kinds)
    layers: Any = layers_of(built, served)
    built.makeConnection(StringTransport())
    assert (layers.are_ready(), layers.has_header, layers.was_given_up) == (False, True, False)
    assert layers.tls_error is None
    built.dataReceived(b"GET / HTTP/1.0\r\n\r\n")
    assert isinstance(layers.tls_error, SSL.Error)
    assert not layers.are_ready()


def test_tls_that_the_service_gives_up_has_no_error() -> None:
    built, served = _wrapped("tls")
    layers: Any = layers_of(built, served)
    built.makeConnection(StringTransport())
    served.transport.loseConnection()
    assert (layers.was_given_up, layers.tls_error) == (True, None)


@pytest.mark.parametrize("kinds", [["proxy"], ["other", "proxy"]])
def test_a_header_is_found(kinds: list[str]) -> None:
    built, served = _wrapped(*kinds)
    layers: Any = layers_of(built, served)
    built.makeConnection(StringTransport())
    assert (layers.are_ready(), layers.is_secured, layers.was_given_up) == (False, True, False)
    built.dataReceived(_HEADER)
    assert layers.are_ready()


def test_both_have_to_be_ready() -> None:
    built, served = _wrapped("tls", "proxy")
    layers: Any = layers_of(built, served)
    built.makeConnection(StringTransport())
    built.dataReceived(_HEADER)
    assert (layers.has_header, layers.is_secured, layers.are_ready()) == (True, False, False)
