"""TLS on every stream listener."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from zope.interface import implementer

from sockservices.connections.parts import Context, Part, RunningPart
from sockservices.converters import readable_file
from sockservices.errors import ArgumentName, SettingError
from sockservices.settings import setting

if TYPE_CHECKING:
    from sockservices.connections.certificate import Certificate

_CERT = ArgumentName("tls_cert")


@attrs.frozen
class TLS(Part):
    """The certificate of the service, and whether clients need one."""

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
        help="Read the private key from this file instead of the --tls-cert file.",
    )
    tls_client_ca: str | None = setting(
        default=None,
        converter=readable_file,
        unit="path",
        needs="tls_cert",
        help="Require a client certificate signed by one of the issuers in this PEM file.",
    )

    def objection(self, listener: Any) -> str | None:
        """See ``Part.objection``."""
        has_tls = self.tls_cert is not None and listener.has_tls
        return "already uses TLS; do not set a TLS certificate as well" if has_tls else None

    def begin(self, context: Context) -> RunningTLS:
        """See ``Part.begin``."""
        return RunningTLS(self, context)

    def certificate(self) -> Certificate | None:
        """Read the certificate files, or return ``None`` if none are set.

        Raises ``SettingError`` if a file cannot be used, or if the packages for TLS are not
        installed.
        """
        if self.tls_cert is None:
            return None
        try:
            from sockservices.connections.certificate import Certificate
        except ImportError:
            raise SettingError(_CERT, " needs an extra: pip install 'sockservices[tls]'") from None
        try:
            return Certificate(self.tls_cert, self.tls_key, self.tls_client_ca)
        except ValueError as error:
            raise SettingError(_CERT, f": {error}") from None


@implementer(IOpenSSLServerConnectionCreator)
class RunningTLS(RunningPart[TLS]):
    """The TLS layer. A changed certificate applies to new connections; open ones keep theirs."""

    def prepare(self, settings: TLS) -> Certificate | None:
        """See ``RunningPart.prepare``."""
        return settings.certificate()

    def apply(self, settings: TLS, prepared: Certificate | None) -> None:
        """See ``RunningPart.apply``."""
        self.settings = settings
        self._certificate = prepared
        self.layer = self._encrypted if prepared is not None else None

    @property
    def files(self) -> str | None:
        """See ``RunningPart.files``."""
        return "certificate" if self._certificate is not None else None

    def _encrypted(self, factory: Any) -> Any:
        from twisted.protocols.tls import TLSMemoryBIOFactory  # needs the extra

        return TLSMemoryBIOFactory(self, False, factory, self.context.reactor)

    def serverConnectionForTLS(self, protocol: Any) -> Any:  # noqa: N802 - Twisted's name
        """See ``IOpenSSLServerConnectionCreator``."""
        assert self._certificate is not None
        return self._certificate.serverConnectionForTLS(protocol)
