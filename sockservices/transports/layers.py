"""The layers between a connection and a service's protocol, which read from the peer first.

A protocol is connected before they have, but nothing that it writes is sent until then.

Private names of Twisted used here, checked with 24.7 to 26.10: ``TLSMemoryBIOProtocol._aborted``
and ``_handshakeDone``, ``HAProxyProtocolWrapper._proxyInfo``.
"""

from __future__ import annotations

from typing import Any

import attrs


@attrs.frozen
class Layers:
    """The layers of a connection that read from the peer before the service does."""

    tls: Any
    """The TLS layer (``TLSMemoryBIOProtocol``), or ``None``."""
    header: Any
    """The layer that reads a PROXY header (``HAProxyProtocolWrapper``), or ``None``."""

    def are_ready(self) -> bool:
        """Return whether the service and the peer can talk."""
        return self.has_header and self.is_secured

    @property
    def has_header(self) -> bool:
        """Whether the PROXY header has been read, if there is to be one."""
        return self.header is None or self.header._proxyInfo is not None

    @property
    def is_secured(self) -> bool:
        """Whether the TLS handshake is complete, if there is to be one."""
        return self.tls is None or bool(self.tls._handshakeDone)

    @property
    def was_given_up(self) -> bool:
        """Whether our side ended TLS before the handshake was complete."""
        return self.tls is not None and bool(self.tls._aborted)

    @property
    def tls_error(self) -> Exception | None:
        """The exception of pyOpenSSL that ended TLS, if it is known."""
        return getattr(self.tls, "error", None)

    @property
    def verify_error(self) -> int | None:
        """Why the peer's certificate is not valid: ``X509_STORE_CTX_get_error(3)``, if known."""
        return getattr(self.tls, "verify_error", None)


def layers_of(protocol: Any, served: Any) -> Layers | None:
    """Return the layers of a connection that read from the peer first, or ``None``.

    Parameters:
        protocol: the protocol of the connection.
        served: the service's protocol, which may be inside it.
    """
    tls = header = None
    while protocol is not served and protocol is not None:
        if hasattr(protocol, "_handshakeDone"):
            tls = protocol
        elif hasattr(protocol, "_proxyInfo"):
            header = protocol
        protocol = getattr(protocol, "wrappedProtocol", None)
    return Layers(tls, header) if tls is not None or header is not None else None
