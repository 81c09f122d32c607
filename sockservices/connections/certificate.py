"""TLS around a service, on listeners of any kind; the certificate can be read again."""

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

# For TLS 1.2. With these a key that is stolen later opens nothing that was recorded, and what is
# altered on its way is noticed at once: RFC 9325, section 4.2. TLS 1.3 has no others.
_CIPHERS = ssl.AcceptableCiphers.fromOpenSSLCipherString("ECDHE+AESGCM:ECDHE+CHACHA20")

_RSA_PSS = "1.2.840.113549.1.1.10"  # id-RSASSA-PSS: RFC 4055. OpenSSL does not take its keys so.


@implementer(IOpenSSLServerConnectionCreator)
class Certificate:
    """What a service shows to its peers, and what it asks of them. TLS 1.2 and up.

    Connections are secret for good (only ephemeral keys are exchanged), sessions can be resumed,
    and a protocol is negotiated (ALPN: RFC 7301) where the service's factory provides
    ``IProtocolNegotiationFactory``.

    Parameters:
        certificate: path of the certificate in PEM, with those of its issuers after it.
        key: path of its key; ``None``: in the same file.
        client_ca: path of the certificates of those who vouch for clients; with it a client must
            show a certificate.

    Raises ``ValueError``, one line that names the file.
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
            if self._client_ca is not None:  # by which a client chooses what to show
                context.load_client_ca(os.fsencode(self._client_ca))
        except SSL.Error as error:
            raise ValueError(
                f"{escaped(self._certificate)} has no certificate to use: {_reasons(error)}"
            ) from None
        return options

    def serverConnectionForTLS(self, protocol: Any) -> Any:  # noqa: N802 - Twisted's name
        """See ``IOpenSSLServerConnectionCreator``."""
        if IOpenSSLServerConnectionCreator.providedBy(self._options):
            return self._options.serverConnectionForTLS(protocol)
        # An older Twisted, whose factory of TLS sees to ALPN.
        return SSL.Connection(self._options.getContext(), None)


def _public_key(certificate: Any, path: str) -> Any:
    kind = getattr(certificate, "public_key_algorithm_oid", None)
    if kind is not None and kind.dotted_string == _RSA_PSS:
        raise ValueError(f"{escaped(path)} is for RSA-PSS only, which cannot be used; RSA can")
    try:
        return certificate.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError(f"{escaped(path)} has no certificate to use: {error}") from None


def _certificates(path: str) -> list[Any]:  # not what Twisted says, but what pyOpenSSL takes
    contents = Path(readable_file(path)).read_bytes()
    try:
        return x509.load_pem_x509_certificates(contents)
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError(f"{escaped(path)} has no certificate in PEM") from None


def _private_key(path: str) -> Any:
    contents = Path(readable_file(path)).read_bytes()
    try:
        return load_pem_private_key(contents, None)
    except TypeError:
        raise ValueError(
            f"{escaped(path)} is encrypted: a service has nobody to ask for a passphrase"
        ) from None
    except ValueError:
        raise ValueError(f"{escaped(path)} has no key in PEM") from None
    except UnsupportedAlgorithm as error:
        raise ValueError(f"{escaped(path)} has no key to use: {error}") from None


def _choose_protocol(connection: SSL.Connection, offered: list[bytes]) -> Any:
    """Choose by ALPN as Twisted does, but let a client in that offers nothing we know.

    Twisted 26 breaks the handshake off then, even where a service has no protocols to choose from.
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
