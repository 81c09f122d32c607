"""Datagram endpoints: for datagrams, what ``IStreamServerEndpoint`` of Twisted is for streams.

Other packages can add types of descriptions as they do for streams: with an object under
``twisted/plugins/`` that provides ``IPlugin`` and ``IDatagramServerEndpointStringParser``.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any, ClassVar

import attrs
from twisted.internet.defer import Deferred, execute
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import AbstractDatagramProtocol
from twisted.plugin import getPlugins
from zope.interface import Attribute, Interface, implementer

from sockservices.errors import DescriptionError
from sockservices.listening.descriptions import (
    Description,
    ip_values,
    unix_values,
)
from sockservices.listening.inherited import InheritedSocket, inherited_socket
from sockservices.transports import Access
from sockservices.transports.binding import Binding
from sockservices.transports.multicast import Group
from sockservices.transports.udp import UdpPort
from sockservices.transports.unix_datagrams import UnixDatagramPort


class IDatagramServerEndpoint(Interface):
    """An address where datagrams can be received."""

    def listen(protocol: AbstractDatagramProtocol) -> Deferred[IListeningPort]:
        """Receive datagrams with this protocol; return a ``Deferred`` of an ``IListeningPort``."""


class IDatagramServerEndpointStringParser(Interface):
    """A parser of descriptions with one prefix. See ``IStreamServerEndpointStringParser``."""

    prefix: str = Attribute("The prefix of the descriptions, without the colon.")

    def parseDatagramServer(reactor: Any, *args: str, **kwargs: str) -> IDatagramServerEndpoint:
        """Return an ``IDatagramServerEndpoint`` for the arguments of a description, all text.

        Raises ``ValueError`` for invalid arguments.
        """


@implementer(IDatagramServerEndpoint)
@attrs.frozen
class UdpServerEndpoint:
    """The endpoint ``udp:PORT[:interface=ADDR][:join=GROUP]``."""

    reactor: Any
    port: int
    interface: str = ""
    receive_buffer: int | None = None
    ipv6only: bool | None = None
    join: Sequence[Group] = ()
    binding: Binding = attrs.Factory(Binding)
    is_udp: ClassVar[bool] = True

    def listen(self, protocol: AbstractDatagramProtocol) -> Deferred[IListeningPort]:
        """See ``IDatagramServerEndpoint``."""
        where = (self.port, protocol, self.interface, self.reactor)
        how = (self.receive_buffer, self.ipv6only, self.join, self.binding)
        return execute(_start, UdpPort(*where, *how))


@implementer(IDatagramServerEndpoint)
@attrs.frozen
class UnixDatagramServerEndpoint:
    """The endpoints ``unixgram:PATH[:mode=660]`` and ``unixgram:abstract=NAME``."""

    reactor: Any
    address: bytes
    access: Access

    def listen(self, protocol: AbstractDatagramProtocol) -> Deferred[IListeningPort]:
        """See ``IDatagramServerEndpoint``."""
        made = UnixDatagramPort(self.address, protocol, self.access, self.reactor)
        return execute(_start, made)


@implementer(IDatagramServerEndpoint)
@attrs.frozen
class InheritedDatagramServerEndpoint:
    """The endpoints ``systemd-datagram:index=0`` and ``systemd-datagram:name=x``, UDP or Unix."""

    reactor: Any
    inherited: InheritedSocket
    receive_buffer: int | None = None

    @property
    def is_udp(self) -> bool:
        """Whether it is for UDP."""
        return self.inherited.family != socket.AF_UNIX

    def listen(self, protocol: AbstractDatagramProtocol) -> Deferred[IListeningPort]:
        """See ``IDatagramServerEndpoint``."""

        def start() -> Any:
            bound = self.inherited.duplicate()
            if self.is_udp:
                return _start(
                    UdpPort.inheriting(bound, protocol, self.reactor, self.receive_buffer)
                )
            return _start(UnixDatagramPort.inheriting(bound, protocol, self.reactor))

        return execute(start)


def _start(port: UdpPort | UnixDatagramPort) -> Any:
    port.startListening()
    return port


def datagram_prefixes() -> set[str]:
    """Return the types of descriptions for datagrams, including those of other packages."""
    parsers = getPlugins(IDatagramServerEndpointStringParser)
    return {"udp", "unixgram", "systemd-datagram"} | {parser.prefix.lower() for parser in parsers}


def datagram_endpoint(
    reactor: Any, description: Description, access: Access, receive_buffer: int | None
) -> Any | None:
    """Return the datagram endpoint for a description, or ``None`` if it is not for datagrams.

    Parameters:
        access: who may use the file of a Unix socket, unless its description says so.
        receive_buffer: the size to ask for, for UDP.

    Raises ``DescriptionError``, which names the faulty part.
    """
    if description.prefix == "udp":
        values = ip_values(description)
        return UdpServerEndpoint(reactor, **values, receive_buffer=receive_buffer)
    if description.prefix == "unixgram":
        return UnixDatagramServerEndpoint(reactor, **unix_values(description, access))
    if description.prefix == "systemd-datagram":
        inherited = inherited_socket(description)
        return InheritedDatagramServerEndpoint(reactor, inherited, receive_buffer)
    for parser in getPlugins(IDatagramServerEndpointStringParser):
        if parser.prefix.lower() == description.prefix:
            try:
                return parser.parseDatagramServer(
                    reactor, *description.positional, **description.named
                )
            except (TypeError, ValueError) as error:
                raise DescriptionError(f"in {description.text!r}: {error}") from None
    return None
