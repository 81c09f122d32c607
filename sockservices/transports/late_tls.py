"""TLS that is started on a connection in use (STARTTLS), and ends as ``tls_closing`` does."""

from __future__ import annotations

from typing import Any

from twisted.internet.abstract import FileDescriptor


class StartsTLS(FileDescriptor):
    """A mixin for Twisted's transports; list it before them."""

    def startTLS(self, ctx: Any, normal: bool = True) -> None:
        """See ``ITLSTransport.startTLS``."""
        super().startTLS(ctx, normal)  # type: ignore[misc]
        from sockservices.transports import tls_closing  # needs an extra, which is there by now

        tls_closing.deliver(getattr(self, "protocol", None))  # it may be lost by now
