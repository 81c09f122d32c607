"""Listeners: the places where a service listens, for streams or datagrams."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar, TypeAlias

import attrs

from sockservices.converters import group_id, octal_mode, user_id, yes_or_no
from sockservices.listening.datagrams import datagram_endpoint
from sockservices.listening.descriptions import (
    Description,
    backlog_length,
    buffer_size,
    description_of,
    not_empty,
    port_number,
)
from sockservices.listening.expansion import expanded
from sockservices.listening.streams import (
    OWN_PREFIXES,
    factory_with_certificates,
    has_certificates,
    is_unix,
    makes_file,
    stream_endpoint,
)
from sockservices.service import Kind
from sockservices.settings import Setting, Settings, setting, settings_of
from sockservices.transports import Access, with_streams


def _text(value: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not an endpoint description, such as tcp:7")
    return value


def _host(value: object) -> str:
    return not_empty(str(value))  # an object of the module ipaddress, too


@attrs.frozen
class Listening(Settings):
    """Settings for where and how a service listens."""

    heading = "Listening"

    port: int | None = setting(
        default=None,
        converter=port_number,
        changeable=False,
        help="Listen on this TCP port; 0 lets the kernel choose one.",
    )
    interface: Sequence[str] = setting(
        converter=_host,
        unit="address",
        repeated=True,
        needs="port",
        changeable=False,
        help="Bind --port to this IPv4 or IPv6 address, or to those of this host name, instead of "
        "all IPv4 addresses.",
    )
    socket: str | None = setting(
        default=None,
        converter=not_empty,
        unit="path",
        changeable=False,
        help="Listen on a Unix stream socket at this path.",
    )
    listen: Sequence[str] = setting(
        converter=_text,
        unit="description",
        repeated=True,
        changeable=False,
        help="Listen on an endpoint description, such as tcp:7, unix:/run/x, udp:7 or "
        "unixgram:/run/x.",
    )
    mode: int = setting(
        default="600",
        converter=octal_mode,
        unit="octal",
        changeable=False,
        help="Create Unix sockets with this file mode.",
    )
    socket_owner: int | None = setting(
        default=None,
        converter=user_id,
        unit="user",
        listener="Unix path",
        changeable=False,
        help="Give the files of Unix sockets to this user (name or ID).",
    )
    socket_group: int | None = setting(
        default=None,
        converter=group_id,
        unit="group",
        listener="Unix path",
        changeable=False,
        help="Give the files of Unix sockets to this group (name or ID).",
    )
    backlog: int = setting(
        default=65535,  # as many as the system allows: it reduces the number to its own limit
        converter=backlog_length,
        unit="connections",
        changeable=False,
        help="Let this many connections wait to be accepted, if the system allows it (on Linux, "
        "net.core.somaxconn is its limit).",
        kind="stream",
    )
    receive_buffer: int | None = setting(
        default=None,
        converter=buffer_size,
        unit="bytes",
        listener="UDP",
        changeable=False,
        help="Ask for a receive buffer of at least this size for UDP.",
    )
    stock_transports: bool = setting(
        default=False,
        converter=yes_or_no,
        changeable=False,
        help="Use Twisted's stock transports instead of the faster eager ones.",
        kind="stream",
    )

    @classmethod
    def described_for(cls, kind: Kind) -> list[Setting]:
        """Return the settings, with help for a service whose ``port`` means this kind."""
        if kind == "stream":
            return settings_of(cls)
        return [
            attrs.evolve(
                each,
                help=each.help.replace("TCP port", "UDP port").replace(" stream ", " datagram "),
            )
            for each in settings_of(cls)
        ]

    def descriptions(self, kind: Kind) -> list[str]:
        """Return the endpoint descriptions of all listeners.

        This looks host names up, and waits for the answers.

        Parameters:
            kind: the kind that ``port`` and ``socket`` mean.

        Raises ``DescriptionError`` for a syntax error, and for a name that cannot be found.
        """
        tcp, unix = ("tcp", "unix") if kind == "stream" else ("udp", "unixgram")
        short = []
        if self.port is not None:
            interfaces: Sequence[str | None] = self.interface or [None]
            short += [description_of(tcp, str(self.port), interface=each) for each in interfaces]
        if self.socket is not None:
            short.append(description_of(unix, self.socket))
        return expanded([*short, *self.listen])


@attrs.frozen
class StreamListener:
    """A listener for connections; ``endpoint`` is an ``IStreamServerEndpoint``."""

    kind: ClassVar[Kind] = "stream"
    description: str
    endpoint: Any
    is_unix: bool = False
    """Whether its peers are on Unix sockets."""
    makes_file: bool = False
    """Whether it makes the file of a Unix socket."""
    has_tls: bool = False
    """Whether its description asks for TLS."""
    reads_proxy_headers: bool = False
    """Whether its description asks for PROXY headers."""
    is_foreign: bool = False
    """Whether its endpoint is not ours, so that it may wrap a factory as it likes."""
    look_again: Callable[[Any], Any] | None = None
    """A function that wraps a factory with the current certificates, if the description names some;
    raises ``DescriptionError``."""

    def is_a(self, kind: str) -> bool:
        """Whether this is the kind of listener that a setting applies to."""
        by_peers = "Unix stream" if self.is_unix else "TCP"
        return kind in (self.kind, by_peers, "Unix path" if self.makes_file else self.kind)


@attrs.frozen
class DatagramListener:
    """A listener for datagrams; ``endpoint`` is an ``IDatagramServerEndpoint``."""

    kind: ClassVar[Kind] = "datagram"
    description: str
    endpoint: Any
    makes_file: bool = False
    """Whether it makes the file of a Unix socket."""
    has_tls = reads_proxy_headers = is_foreign = False
    look_again = None

    def is_a(self, kind: str) -> bool:
        """Whether this is the kind of listener that a setting applies to."""
        is_udp = getattr(self.endpoint, "is_udp", False)  # ours alone say so
        by_peers = "UDP" if is_udp else self.kind
        return kind in (self.kind, by_peers, "Unix path" if self.makes_file else self.kind)


Listener: TypeAlias = StreamListener | DatagramListener


def listener(
    reactor: Any,
    description: str,
    settings: Listening,
    wrap: Callable[[Any], Any] = lambda factory: factory,
) -> Listener:
    """Return the listener for an endpoint description.

    Parameters:
        reactor: the reactor to listen with.
        description: of one of Twisted's types, of our datagram types, or of another package's.
        settings: the backlog and the mode, unless the description has them, the receive buffer, and
            the kind of transports.
        wrap: wraps the factory that a foreign endpoint listens with, which may itself wrap the one
            that the endpoint was given. So our layer sees a connection before the endpoint's.

    Raises ``DescriptionError``, one line that names the faulty part.
    """
    parsed = Description.parse(description)
    access = Access(settings.mode, settings.socket_owner, settings.socket_group)
    endpoint = datagram_endpoint(reactor, parsed, access, settings.receive_buffer)
    if endpoint is not None:
        return DatagramListener(description, endpoint, makes_file(parsed))
    streams = with_streams(reactor, eager=not settings.stock_transports)
    endpoint = stream_endpoint(streams, parsed, settings.backlog, access, wrap)
    look_again = partial(factory_with_certificates, streams, parsed)
    layers = (parsed.prefix, *(each.lower() for each in parsed.positional[:1]))
    reads_proxy_headers = parsed.prefix == "haproxy"
    return StreamListener(
        description,
        endpoint,
        is_unix=is_unix(parsed, endpoint),
        makes_file=makes_file(parsed),
        has_tls=bool({"ssl", "tls"}.intersection(layers[: 2 if reads_proxy_headers else 1])),
        reads_proxy_headers=reads_proxy_headers,
        is_foreign=parsed.prefix not in OWN_PREFIXES,
        look_again=look_again if has_certificates(parsed) else None,
    )
