"""TLS around a service, on listeners of any kind; the certificate can be read again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.protocol import connectionDone
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from sockservices.calls import cancel
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
        context.set_info_callback(_tell_end_of_handshake)
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
        connection = SSL.Connection(self._context, None)
        connection.set_app_data(protocol)  # as newer releases of Twisted do
        return connection


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


def _tell_end_of_handshake(connection: Any, where: int, _value: int) -> None:
    if where & SSL.SSL_CB_HANDSHAKE_DONE:
        connection.get_app_data().handshake_done()


class _Protocol(TLSMemoryBIOProtocol):
    """TLS on one connection, which must come to be within a time."""

    factory: TLSFactory
    _deadline: Any = None

    def makeConnection(self, transport: Any) -> None:
        self._deadline = self.factory.call_later(self._too_late)
        super().makeConnection(transport)  # type: ignore[no-untyped-call]

    def handshake_done(self) -> None:
        deadline, self._deadline = self._deadline, None
        cancel(deadline)

    def _too_late(self) -> None:
        self._deadline = None
        self.factory.too_late(self.transport)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.handshake_done()
        super().connectionLost(reason)  # type: ignore[no-untyped-call]


class TLSFactory(TLSMemoryBIOFactory):
    """Puts TLS around what another factory builds.

    Parameters:
        certificate: what is shown.
        factory: builds the protocols inside.
        reactor: an ``IReactorTime``.
        handshake_timeout: seconds for the handshake.
        too_late: called with the transport of a connection that has not done it by then.
    """

    protocol = _Protocol
    noisy = False

    def __init__(
        self,
        certificate: Certificate,
        factory: Any,
        reactor: Any,
        handshake_timeout: float,
        too_late: Callable[[Any], None],
    ) -> None:
        super().__init__(certificate, False, factory, reactor)
        self._reactor = reactor
        self._handshake_timeout = handshake_timeout
        self.too_late = too_late

    def call_later(self, call: Callable[[], None]) -> Any:
        """Call when the time for the handshake is over."""
        return self._reactor.callLater(self._handshake_timeout, call)
