"""TLS on every stream listener."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import attrs
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from zope.interface import implementer

from sockservices.connections.parts import Context, Part, RunningPart, Steps
from sockservices.converters import readable_file, readable_file_or_directory
from sockservices.errors import ArgumentName, SettingError
from sockservices.requirement import pip_install
from sockservices.settings import setting

if TYPE_CHECKING:
    from sockservices.connections.certificates import Certificates

_CERT = ArgumentName("tls_cert")


@attrs.frozen
class TLS(Part):
    """The certificates of the service, and whether clients need one."""

    heading = "TLS"

    tls_cert: Sequence[str] = setting(
        converter=readable_file_or_directory,
        unit="path",
        repeated=True,
        listener="stream",
        help="Use TLS on every stream listener, with the certificate in this PEM file, followed "
        "by those of its issuers, or with all certificates in this directory. The name that a "
        "client asks for selects one; the first is the default. SIGHUP reads them again.",
    )
    tls_key: Sequence[str] = setting(
        converter=readable_file,
        unit="path",
        repeated=True,
        needs="tls_cert",
        help="Read the private key of a certificate from this file, if it is not in the same file "
        "or directory.",
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
        has_tls = bool(self.tls_cert) and listener.has_tls
        return "already uses TLS; do not set a TLS certificate as well" if has_tls else None

    def begin(self, context: Context) -> RunningTLS:
        """See ``Part.begin``."""
        return RunningTLS(self, context)

    def certificates(self, former: Certificates | None = None) -> Steps[Certificates | None]:
        """Read the certificates in steps, or return ``None`` if none are set.

        Parameters:
            former: the certificates that these replace, whose sessions can still be resumed.

        Raises ``SettingError`` if a file cannot be used, or if the packages for TLS are not
        installed.
        """
        if not self.tls_cert:
            return None
        try:
            from sockservices.connections.certificates import read_certificates
        except ImportError:
            raise SettingError(_CERT, f" needs an extra: {pip_install('tls')}") from None
        try:
            return (
                yield from read_certificates(
                    self.tls_cert, self.tls_key, self.tls_client_ca, former
                )
            )
        except ValueError as error:
            raise SettingError(_CERT, f": {error}") from None


@implementer(IOpenSSLServerConnectionCreator)
class RunningTLS(RunningPart[TLS]):
    """The TLS layer. A changed certificate applies to new connections; open ones keep theirs."""

    _certificates: Certificates | None = None

    def prepare_in_steps(self, settings: TLS) -> Steps[Certificates | None]:
        """See ``RunningPart.prepare_in_steps``."""
        return settings.certificates(self._certificates)

    def apply(self, settings: TLS, prepared: Certificates | None) -> None:
        """See ``RunningPart.apply``."""
        self.settings = settings
        self._certificates = prepared
        self.layer = self._encrypted if prepared is not None else None

    @property
    def files(self) -> str | None:
        """See ``RunningPart.files``."""
        return "certificate" if self._certificates is not None else None

    def _encrypted(self, factory: Any) -> Any:
        from twisted.protocols.tls import TLSMemoryBIOFactory  # needs the extra

        return TLSMemoryBIOFactory(self, False, factory, self.context.reactor)

    def serverConnectionForTLS(self, protocol: Any) -> Any:  # noqa: N802 - Twisted's name
        """See ``IOpenSSLServerConnectionCreator``."""
        assert self._certificates is not None
        return self._certificates.serverConnectionForTLS(protocol)
