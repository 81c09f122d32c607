"""Eager transports and the reactor built on them: what is written is sent in the same turn.

``EagerStreams`` gives them to any POSIX reactor. ``install`` installs ``EagerReactor``, which is
Linux's, as ``twistd --reactor=eager`` does; call it before anything imports the reactor.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from sockservices.eager.adopted import adopt_datagram_socket
from sockservices.eager.clock import keep_steady
from sockservices.eager.counted import Counted
from sockservices.eager.polling import is_readable
from sockservices.eager.port import AcceptingPort, Acceptor
from sockservices.eager.proxied import log_prefix
from sockservices.eager.stock import UNIXPort as StockUnixPort
from sockservices.eager.streams import (
    EagerMethods,
    EagerStreams,
    LookingStreams,
    WrappingStreams,
    with_streams,
)
from sockservices.eager.unix import Port as UnixPort

if TYPE_CHECKING:
    from sockservices.eager.reactor import EagerReactor, install

__all__ = [
    "AcceptingPort",
    "Acceptor",
    "Counted",
    "EagerMethods",
    "EagerReactor",
    "EagerStreams",
    "LookingStreams",
    "StockUnixPort",
    "UnixPort",
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
    from sockservices.eager import tls  # of an extra

    tls.deliver_at_the_end(factory)


def __getattr__(name: str) -> Any:
    if name in ("EagerReactor", "install"):  # not on every system
        from sockservices.eager import reactor

        return getattr(reactor, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
