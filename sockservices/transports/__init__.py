"""Bytes and datagrams: ports, the transports of connections, and the eager reactor.

*Eager* transports send what is written in the same turn, instead of through the event loop.
``EagerStreams`` gives them to any POSIX reactor. ``install`` installs ``EagerReactor``, which is
Linux's, as ``twistd --reactor=eager`` does; call it before anything imports the reactor.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from sockservices.transports.adopted import adopt_datagram_socket
from sockservices.transports.clock import keep_steady
from sockservices.transports.counted import Counted
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

if TYPE_CHECKING:
    from sockservices.transports.reactor import EagerReactor, install

__all__ = [
    "AcceptingPort",
    "Acceptor",
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
    """Have a factory of Twisted's TLS lose nothing at the peer's end; leave others as they are."""
    if "twisted.protocols.tls" not in sys.modules:
        return
    from sockservices.transports import tls  # of an extra

    tls.deliver_at_the_end(factory)


def __getattr__(name: str) -> Any:
    if name in ("EagerReactor", "install"):  # not on every system
        from sockservices.transports import reactor

        return getattr(reactor, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
