"""A listener: one place where a service listens, of streams or of datagrams."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import attrs

from sockservices.eager import with_streams
from sockservices.listening.datagrams import datagram_endpoint
from sockservices.listening.descriptions import Description
from sockservices.listening.streams import (
    factory_with_certificates,
    has_certificates,
    is_unix,
    stream_endpoint,
)

DEFAULT_BACKLOG = 1024  # connections; Twisted's 50 stalls under a burst, and listen(2) cuts more
DEFAULT_MODE = 0o600


@attrs.frozen
class StreamListener:
    """A place for connections: ``endpoint`` is an ``IStreamServerEndpoint``."""

    description: str
    endpoint: Any
    is_unix: bool = False
    """Whether its peers are on Unix sockets."""
    look_again: Callable[[Any], Any] | None = None
    """Where its description names certificates: takes a factory, and returns it with a layer around
    it that shows those of now; raises ``DescriptionError``."""


@attrs.frozen
class DatagramListener:
    """A place for datagrams: ``endpoint`` is an ``IDatagramServerEndpoint``."""

    description: str
    endpoint: Any


def listener(
    reactor: Any,
    description: str,
    backlog: int = DEFAULT_BACKLOG,
    mode: int = DEFAULT_MODE,
    *,
    stock_transports: bool = False,
    wrap: Callable[[Any], Any] = lambda factory: factory,
) -> StreamListener | DatagramListener:
    """Read an endpoint description.

    Parameters:
        reactor: what will listen.
        description: of Twisted's types, of ours for datagrams, or of another package's.
        backlog: connections that may wait to be accepted, where the description says nothing.
        mode: of the file of a Unix socket, where the description says nothing.
        stock_transports: give connections Twisted's own transports, not eager ones.
        wrap: what is to be done to a factory that a foreign endpoint has made of the one that it
            is given, so that what is done to connections comes before all that it does to them.

    Raises ``DescriptionError``, one line that names the faulty part.
    """
    parsed = Description.parse(description)
    endpoint = datagram_endpoint(reactor, parsed, mode)
    if endpoint is not None:
        return DatagramListener(description, endpoint)
    streams = with_streams(reactor, eager=not stock_transports)
    endpoint = stream_endpoint(streams, parsed, backlog, mode, wrap)
    look_again = partial(factory_with_certificates, streams, parsed)
    return StreamListener(
        description,
        endpoint,
        is_unix(parsed, endpoint),
        look_again if has_certificates(parsed) else None,
    )
