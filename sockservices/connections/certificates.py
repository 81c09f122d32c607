"""The TLS certificates of a service, for all stream listeners; they can be reloaded."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

from OpenSSL import SSL
from OpenSSL.crypto import X509
from twisted.internet import ssl
from twisted.internet.interfaces import (
    IOpenSSLServerConnectionCreator,
    IProtocolNegotiationFactory,
)
from zope.interface import implementer

from sockservices.connections.certificate_files import Chain, certificates_in, read_chains
from sockservices.connections.parts import Steps
from sockservices.printable import escaped

# For TLS 1.2: only ciphers with forward secrecy and authenticated encryption, see RFC 9325,
# section 4.2. TLS 1.3 has no others.
_CIPHERS = ssl.AcceptableCiphers.fromOpenSSLCipherString("ECDHE+AESGCM:ECDHE+CHACHA20")

# One for all certificates, so that a session is found before the certificate is selected.
_SESSIONS = b"sockservices"


@implementer(IOpenSSLServerConnectionCreator)
class Certificates:
    """The certificates and TLS options of a service, for TLS 1.2 and later.

    Connections have forward secrecy (only ephemeral keys are exchanged), and sessions can be
    resumed. If the service's factory provides ``IProtocolNegotiationFactory``, the protocol is
    negotiated by ALPN (RFC 7301).

    The name that a client asks for (SNI: RFC 6066, section 3) selects the certificate: the first
    with that name, or else the first with a wildcard for it. The first of all is for clients that
    ask for another name or for none.

    OpenSSL encrypts session tickets with a random key of the context from which a connection is
    made (SSL_CTX_set_tlsext_ticket_key_cb(3), whose alternatives pyOpenSSL does not offer). So that
    sessions outlive a change of certificates, later ones keep the first context for that.

    Parameters:
        options: the ``CertificateOptions`` of each certificate, with the names that it is for.
        trust: the CA certificates for clients, or ``None`` if clients need none.
        former: the certificates that these replace. Their sessions can be resumed if the same
            clients are trusted; otherwise a client could avoid being verified again.
    """

    def __init__(
        self,
        options: Sequence[tuple[Any, list[str]]],
        trust: list[Any] | None = None,
        former: Certificates | None = None,
    ) -> None:
        self._default: SSL.Context = options[0][0].getContext()
        self._by_name: dict[str, SSL.Context] = {}
        for each, names in options:
            for name in names:
                self._by_name.setdefault(name, each.getContext())
        self._trust = trust
        self._of_sessions = self._default
        if former is not None and former._trust == trust:
            self._of_sessions = former._of_sessions
        # Without a callback of its own, a connection would use that of the first context.
        if len(options) > 1 or self._of_sessions is not self._default:
            self._default.set_tlsext_servername_callback(self._select)

    def serverConnectionForTLS(self, protocol: Any) -> Any:  # noqa: N802 - Twisted's name
        """See ``IOpenSSLServerConnectionCreator``."""
        connection = SSL.Connection(self._of_sessions)
        if self._of_sessions is not self._default:
            connection.set_context(self._default)
        connection.set_app_data(protocol)
        return connection

    def _select(self, connection: SSL.Connection) -> None:
        """Show the certificate for the name that the client asks for."""
        name = (connection.get_servername() or b"").decode("ascii", "replace").lower()
        wildcard = f"*.{name.partition('.')[2]}"
        context = self._by_name.get(name) or self._by_name.get(wildcard)
        if context is not None:
            connection.set_context(context)


def read_certificates(
    certificates: Iterable[str],
    keys: Iterable[str] = (),
    client_ca: str | None = None,
    former: Certificates | None = None,
) -> Steps[Certificates]:
    """Read the certificates of a service from files and directories.

    Parameters:
        certificates: paths of files or directories with certificates; see ``read_chains``.
        keys: paths of their keys, if they are not in the same files or directories.
        client_ca: path of the CA certificates for clients. If it is given, each client must
            present a certificate.
        former: the certificates that these replace, whose sessions can still be resumed.

    Raises ``ValueError`` with one line that names the file.
    """
    chains = yield from read_chains(certificates, keys)
    authorities = certificates_in(client_ca) if client_ca is not None else None
    trust = _trust_in(authorities) if authorities is not None else None
    found = []
    for chain in chains:
        found.append((_options(chain, client_ca, trust), chain.names))
        yield
    return Certificates(found, authorities, former)


def _options(chain: Chain, client_ca: str | None, trust: Any) -> Any:
    options: Any = ssl.CertificateOptions(
        privateKey=chain.key,
        certificate=chain.own,
        extraCertChain=list(chain.issuers),
        trustRoot=trust,
        acceptableCiphers=_CIPHERS,
        raiseMinimumTo=ssl.TLSVersion.TLSv1_2,
        enableSessions=True,
        enableSessionTickets=True,
    )
    try:
        context = options.getContext()
        context.set_session_id(_SESSIONS)
        context.set_alpn_select_callback(_choose_protocol)
        if client_ca is not None:  # the client uses it to select its certificate
            context.load_client_ca(os.fsencode(client_ca))
            context.set_verify(context.get_verify_mode(), _note_why_not_valid)
    except SSL.Error as error:
        raise ValueError(
            f"{escaped(chain.path)} has no usable certificate: {_reasons(error)}"
        ) from None
    return options


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
