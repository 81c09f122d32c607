"""The TLS certificate of a service, for all stream listeners; it can be reloaded."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL
from OpenSSL.crypto import X509
from twisted.internet import ssl
from twisted.internet.interfaces import (
    IOpenSSLServerConnectionCreator,
    IProtocolNegotiationFactory,
)
from zope.interface import implementer

from sockservices.converters import readable_file
from sockservices.printable import escaped

# For TLS 1.2: only ciphers with forward secrecy and authenticated encryption, see RFC 9325,
# section 4.2. TLS 1.3 has no others.
_CIPHERS = ssl.AcceptableCiphers.fromOpenSSLCipherString("ECDHE+AESGCM:ECDHE+CHACHA20")

_RSA_PSS = "1.2.840.113549.1.1.10"  # id-RSASSA-PSS: RFC 4055. OpenSSL cannot load such keys here.


@implementer(IOpenSSLServerConnectionCreator)
class Certificate:
    """The certificate and TLS options of a service, for TLS 1.2 and later.

    Connections have forward secrecy (only ephemeral keys are exchanged), and sessions can be
    resumed. If the service's factory provides ``IProtocolNegotiationFactory``, the protocol is
    negotiated by ALPN (RFC 7301).

    Parameters:
        certificate: path of the PEM certificate, followed by those of its issuers.
        key: path of its key; ``None`` reads it from the certificate's file.
        client_ca: path of the CA certificates for clients. If it is given, each client must
            present a certificate.

    Raises ``ValueError`` with one line that names the file.
    """

    def __init__(
        self, certificate: str, key: str | None = None, client_ca: str | None = None
    ) -> None:
        self._certificate = certificate
        self._key = key or certificate
        self._client_ca = client_ca
        self._options = self._read()

    def _read(self) -> Any:
        own, *issuers = _certificates(self._certificate)
        authorities = _certificates(self._client_ca) if self._client_ca is not None else []
        key = _private_key(self._key)
        if key.public_key() != _public_key(own, self._certificate):
            raise ValueError(f"{escaped(self._key)} is not the key of {escaped(self._certificate)}")
        options: Any = ssl.CertificateOptions(
            privateKey=key,
            certificate=own,
            extraCertChain=issuers,
            trustRoot=_trust_in(authorities) if authorities else None,
            acceptableCiphers=_CIPHERS,
            raiseMinimumTo=ssl.TLSVersion.TLSv1_2,
            enableSessions=True,
            enableSessionTickets=True,
        )
        try:
            context = options.getContext()
            context.set_alpn_select_callback(_choose_protocol)
            if self._client_ca is not None:  # the client uses it to select its certificate
                context.load_client_ca(os.fsencode(self._client_ca))
                context.set_verify(context.get_verify_mode(), _note_why_not_valid)
        except SSL.Error as error:
            raise ValueError(
                f"{escaped(self._certificate)} has no usable certificate: {_reasons(error)}"
            ) from None
        return options

    def serverConnectionForTLS(self, protocol: Any) -> Any:  # noqa: N802 - Twisted's name
        """See ``IOpenSSLServerConnectionCreator``."""
        if IOpenSSLServerConnectionCreator.providedBy(self._options):
            return self._options.serverConnectionForTLS(protocol)
        # In older versions of Twisted, the TLS factory handles ALPN.
        connection = SSL.Connection(self._options.getContext(), None)
        connection.set_app_data(protocol)
        return connection


def _public_key(certificate: Any, path: str) -> Any:
    kind = getattr(certificate, "public_key_algorithm_oid", None)
    if kind is not None and kind.dotted_string == _RSA_PSS:
        raise ValueError(f"{escaped(path)} is for RSA-PSS only, which is not supported; use RSA")
    try:
        return certificate.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError(f"{escaped(path)} has no usable certificate: {error}") from None


def _certificates(path: str) -> list[Any]:  # Twisted declares other types than pyOpenSSL takes
    contents = Path(readable_file(path)).read_bytes()
    try:
        return x509.load_pem_x509_certificates(contents)
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError(f"{escaped(path)} contains no PEM certificate") from None


def _private_key(path: str) -> Any:
    contents = Path(readable_file(path)).read_bytes()
    try:
        return load_pem_private_key(contents, None)
    except TypeError:
        raise ValueError(
            f"{escaped(path)} is encrypted: a service cannot ask for a passphrase"
        ) from None
    except ValueError:
        raise ValueError(f"{escaped(path)} contains no PEM key") from None
    except UnsupportedAlgorithm as error:
        raise ValueError(f"{escaped(path)} has no usable key: {error}") from None


def _note_why_not_valid(
    connection: SSL.Connection, _certificate: X509, number: int, _depth: int, is_valid: int
) -> bool:
    """Keep the reason why a client's certificate is not valid; the error does not tell it."""
    if not is_valid:
        tls: Any = connection.get_app_data()
        tls.verify_error = number
    return bool(is_valid)


def _choose_protocol(connection: SSL.Connection, offered: list[bytes]) -> Any:
    """Choose by ALPN as Twisted does, but admit a client that offers no known protocol.

    Twisted 26 aborts the handshake then, even if the service has no protocols to choose from.
    """
    tls: Any = connection.get_app_data()
    factory = IProtocolNegotiationFactory(tls.factory.wrappedFactory, None) if tls else None
    acceptable = factory.acceptableProtocols() if factory is not None else []
    return next((each for each in acceptable if each in offered), SSL.NO_OVERLAPPING_PROTOCOLS)


def _trust_in(authorities: list[Any]) -> Any:
    found = [ssl.Certificate(X509.from_cryptography(each)) for each in authorities]
    return ssl.trustRootFromCertificates(found)


def _reasons(error: SSL.Error) -> str:
    return ", ".join(dict.fromkeys(reason for _library, _function, reason in error.args[0]))
