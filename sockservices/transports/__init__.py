"""Transports: ports, connections, and the eager reactor.

*Eager* transports send data in the turn in which it is written, instead of through the event loop.
``EagerStreams`` adds them to any POSIX reactor. ``install`` installs ``EagerReactor`` (Linux only),
as ``twistd --reactor=eager`` does; call it before anything imports the reactor.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from sockservices.transports.adopted_sockets import adopt_datagram_socket
from sockservices.transports.byte_counting import Counted
from sockservices.transports.clock import keep_steady
from sockservices.transports.polling import is_readable
from sockservices.transports.port import AcceptingPort, Acceptor
from sockservices.transports.proxied import log_prefix
from sockservices.transports.streams import (
    EagerMethods,
    EagerStreams,
    LookingStreams,
    WrappingStreams,
    with_streams,
)
from sockservices.transports.unix_binding import Access

if TYPE_CHECKING:
    from sockservices.transports.reactor import EagerReactor, install

__all__ = [
    "AcceptingPort",
    "Acceptor",
    "Access",
    "Counted",
    "EagerMethods",
    "EagerReactor",
    "EagerStreams",
    "LookingStreams",
    "WrappingStreams",
    "adopt_datagram_socket",
    "deliver_at_the_end",
    "install",
    "is_readable",
    "keep_steady",
    "log_prefix",
    "with_streams",
]


def deliver_at_the_end(factory: Any) -> None:
    """Make a TLS factory of Twisted use our transport for TLS, which loses nothing at the end."""
    if "twisted.protocols.tls" not in sys.modules:
        return
    from sockservices.transports import tls  # needs an extra

    tls.deliver_at_the_end(factory)


def __getattr__(name: str) -> Any:
    if name in ("EagerReactor", "install"):  # not available on every system
        from sockservices.transports import reactor

        return getattr(reactor, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
