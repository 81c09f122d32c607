"""TLS around a service, on listeners of any kind; the certificate can be read again."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import load_pem_private_key
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
        # twistd changes its folder when it has started.
        self._certificate = os.path.abspath(certificate)
        self._key = os.path.abspath(key or certificate)
        self._client_ca = os.path.abspath(client_ca) if client_ca is not None else None
        self.reload()

    def reload(self) -> None:
        """Read the files again, for connections from now on.

        Raises ``ValueError`` if one cannot be used; what was before stays in force then.
        """
        for path in (self._certificate, self._key, self._client_ca):
            if path is not None:
                _check_readable(path)
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.set_min_proto_version(SSL.TLS1_2_VERSION)
        _use(self._certificate, "certificate", context.use_certificate_chain_file)
        _check_key(self._key)
        try:
            _use(self._key, "key", context.use_privatekey_file)
            context.check_privatekey()  # OpenSSL has a place for each type of key
        except SSL.Error:
            raise ValueError(
                f"{escaped(self._key)} is not the key of {escaped(self._certificate)}"
            ) from None
        if self._client_ca is not None:
            _use(self._client_ca, "certificate", context.load_verify_locations)
            context.load_client_ca(os.fsencode(self._client_ca))
            context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT)
            context.set_session_id(b"sockservices")  # without one no session with it is resumed
        self._context = context

    def serverConnectionForTLS(self, protocol: Any) -> Any:  # noqa: N802 - Twisted's name
        """See ``IOpenSSLServerConnectionCreator``."""
        return SSL.Connection(self._context, None)


def _check_readable(path: str) -> None:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe would be waited for
            raise ValueError(f"{escaped(path)} is no regular file")
        with open(path, "rb"):
            return
    except OSError as error:
        raise ValueError(f"{escaped(path)}: {system_reason(error)}") from None


def _check_key(path: str) -> None:
    # OpenSSL would ask the terminal for a passphrase.
    try:
        load_pem_private_key(Path(path).read_bytes(), None)
    except TypeError:
        raise ValueError(
            f"{escaped(path)} is encrypted: a service has nobody to ask for a passphrase"
        ) from None
    except ValueError:
        raise ValueError(f"{escaped(path)} has no key in PEM") from None


def _use(path: str, what: str, use: Callable[[str], object]) -> None:
    """Let OpenSSL read a file; ``SSL.Error`` is that it does not fit what was read before."""
    try:
        use(path)
    except SSL.Error as error:
        reasons = list(dict.fromkeys(reason for _library, _function, reason in error.args[0]))
        if any("mismatch" in each for each in reasons):
            raise
        if not reasons or "no start line" in reasons:
            raise ValueError(f"{escaped(path)} has no {what} in PEM") from None
        raise ValueError(f"{escaped(path)} has no {what} to use: {', '.join(reasons)}") from None
