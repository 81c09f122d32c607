"""TLS around a service, on listeners of any kind; the certificate can be read again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from zope.interface import implementer

from sockservices.printable import escaped, system_reason


@implementer(IOpenSSLServerConnectionCreator)
class Certificate:
    """What a service shows to its peers, and what it asks of them. TLS 1.2 and up.

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
        self.reload()

    def reload(self) -> None:
        """Read the files again, for connections from now on.

        Raises ``ValueError`` if one cannot be used; what was before stays in force then.
        """
        for path in (self._certificate, self._key, self._client_ca):
            if path is not None:
                _readable(path)
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.set_min_proto_version(SSL.TLS1_2_VERSION)
        _use(self._certificate, "certificate", context.use_certificate_chain_file)
        try:
            _use(self._key, "key", context.use_privatekey_file)
        except ValueError as error:
            if "mismatch" not in str(error.__context__):
                raise
            raise ValueError(
                f"{escaped(self._key)} is not the key of {escaped(self._certificate)}"
            ) from None
        if self._client_ca is not None:
            _use(self._client_ca, "certificate", context.load_verify_locations)
            context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT)
            context.set_session_id(b"sockservices")  # without one no session with it is resumed
        self._context = context

    def serverConnectionForTLS(self, protocol: Any) -> Any:  # noqa: N802 - Twisted's name
        """See ``IOpenSSLServerConnectionCreator``."""
        return SSL.Connection(self._context, None)


def _readable(path: str) -> None:
    try:
        with open(path, "rb"):
            return
    except OSError as error:
        raise ValueError(f"{escaped(path)}: {system_reason(error)}") from None


def _use(path: str, what: str, use: Callable[[str], object]) -> None:
    try:
        use(path)
    except SSL.Error:
        raise ValueError(f"{escaped(path)} has no {what} in PEM") from None
