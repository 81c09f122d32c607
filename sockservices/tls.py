"""TLS on every stream listener."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from zope.interface import implementer

from sockservices.converters import readable_file
from sockservices.errors import ArgumentName, SettingError
from sockservices.parts import Part
from sockservices.settings import setting

if TYPE_CHECKING:
    from sockservices.certificate import Certificate

_CERT = ArgumentName("tls_cert")


@attrs.frozen
class TLS(Part):
    """The certificate that connections are shown, and what is asked of their peers."""

    heading = "TLS"

    tls_cert: str | None = setting(
        default=None,
        converter=readable_file,
        unit="path",
        listener="stream",
        help="Use TLS on every stream listener, with the certificate in this PEM file, followed "
        "by those of its issuers. SIGHUP reads it again.",
    )
    tls_key: str | None = setting(
        default=None,
        converter=readable_file,
        unit="path",
        needs="tls_cert",
        help="Read the private key from this file, not from that of --tls-cert.",
    )
    tls_client_ca: str | None = setting(
        default=None,
        converter=readable_file,
        unit="path",
        needs="tls_cert",
        help="Require a client certificate that one of the issuers in this file has signed.",
    )

    def objection(self, listener: Any) -> str | None:
        """See ``Part.objection``."""
        has_tls = self.tls_cert is not None and listener.has_tls
        return "has TLS of its own: one is enough" if has_tls else None

    def certificate(self) -> Certificate:
        """Read the files.

        Raises ``SettingError`` for one that cannot be used, and where what TLS needs is not
        installed.
        """
        try:
            from sockservices.certificate import Certificate
        except ImportError:
            raise SettingError(_CERT, " needs: pip install 'sockservices[tls]'") from None
        assert self.tls_cert is not None
        try:
            return Certificate(self.tls_cert, self.tls_key, self.tls_client_ca)
        except ValueError as error:
            raise SettingError(_CERT, f": {error}") from None


@implementer(IOpenSSLServerConnectionCreator)
class RunningTLS:
    """Shows connections a certificate, which can be another for those to come.

    Parameters:
        settings: where the certificate is.

    Raises ``SettingError``.
    """

    def __init__(self, settings: TLS) -> None:
        self._settings = settings
        self.reload()

    def reload(self) -> None:
        """Read the files again; raises ``SettingError``, and then all stays as it was."""
        self._certificate = self._settings.certificate()

    def serverConnectionForTLS(self, protocol: Any) -> Any:  # noqa: N802 - Twisted's name
        """See ``IOpenSSLServerConnectionCreator``."""
        return self._certificate.serverConnectionForTLS(protocol)
