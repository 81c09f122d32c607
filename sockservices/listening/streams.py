"""Stream endpoints: Twisted's own, with the defaults of this package."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from importlib import import_module
from typing import Any

import attrs
from twisted.internet.defer import Deferred, execute
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocolFactory,
    IStreamServerEndpoint,
    IStreamServerEndpointStringParser,
)
from twisted.plugin import getPlugins
from twisted.python.failure import Failure
from zope.interface import implementer

from sockservices.converters import yes_or_no
from sockservices.errors import DescriptionError
from sockservices.listening.datagrams import datagram_prefixes
from sockservices.listening.descriptions import (
    UNIX_PARTS,
    Description,
    check_is_ipv6,
    check_port_first,
    description_of,
    ip_values,
    listening_on,
    port_number,
    unix_values,
)
from sockservices.listening.inherited import InheritedSocket, inherited_socket
from sockservices.listening.ip_place import ip_place
from sockservices.printable import escaped, system_reason, unbracketed
from sockservices.requirement import pip_install
from sockservices.suggestions import did_you_mean
from sockservices.transports import Access, LookingStreams, WrappingStreams
from sockservices.transports.binding import Binding

OWN_PREFIXES = ("tcp", "tcp6", "unix", "systemd")
"""The types of descriptions that this module parses, and not Twisted or other packages."""


@implementer(IStreamServerEndpoint)
@attrs.frozen
class TcpServerEndpoint:
    """The endpoints ``tcp:PORT[:interface=ADDR]`` and ``tcp6:PORT``, IPv4 or IPv6."""

    reactor: Any
    port: int
    interface: str
    backlog: int
    ipv6only: bool | None = None
    binding: Binding = attrs.Factory(Binding)

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:  # noqa: N803
        """See ``IStreamServerEndpoint.listen``."""
        where: list[Any] = [self.port, protocolFactory, self.backlog, self.interface]
        if (self.ipv6only, self.binding) != (None, Binding()):  # which only our own reactors know
            where += [self.ipv6only, self.binding]
        return execute(self.reactor.listenTCP, *where)


@implementer(IStreamServerEndpoint)
@attrs.frozen
class UnixServerEndpoint:
    """The endpoints ``unix:PATH``, which replaces only a stale file, and ``unix:abstract=NAME``."""

    reactor: Any
    address: bytes
    backlog: int
    access: Access
    lockfile: bool = False

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:  # noqa: N803
        """See ``IStreamServerEndpoint.listen``."""
        where: list[Any] = [self.address, protocolFactory, self.backlog, self.access, self.lockfile]
        return execute(self.reactor.listen_at, *where)


@implementer(IStreamServerEndpoint)
@attrs.frozen
class InheritedServerEndpoint:
    """The endpoints ``systemd:index=0`` and ``systemd:name=x``; they can listen again later."""

    reactor: Any
    inherited: InheritedSocket
    backlog: int
    """The backlog, if it has to listen again."""

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:  # noqa: N803
        """See ``IStreamServerEndpoint.listen``."""
        descriptor, family = self.inherited.descriptor, self.inherited.family

        def start() -> Any:
            self.inherited.listen_again(self.backlog)
            return self.reactor.adoptStreamPort(descriptor, family, protocolFactory)

        return execute(start)


def stream_endpoint(
    reactor: Any,
    description: Description,
    backlog: int,
    access: Access,
    wrap: Callable[[Any], Any] = lambda factory: factory,
) -> Any:
    """Return the stream endpoint for a description.

    Parameters:
        backlog: the backlog, unless the description has one.
        access: who may use the file of a Unix socket, unless its description says so.
        wrap: wraps the factory that a foreign endpoint listens with.

    Raises ``DescriptionError``, which names the faulty part.
    """
    match description.prefix:
        case "tcp" | "tcp6":
            return TcpServerEndpoint(reactor, **{"backlog": backlog, **ip_values(description)})
        case "unix":
            values = {"backlog": backlog, **unix_values(description, access)}
            return UnixServerEndpoint(reactor, **values)
        case "systemd":
            return InheritedServerEndpoint(reactor, inherited_socket(description), backlog)
        case "ssl":
            _check_port(description)
    known, families = _without_families(description)
    foreign = WrappingStreams(reactor, wrap, access, **families)
    return _foreign_endpoint(foreign, description, _with_defaults(known, backlog, access.mode))


def is_unix(description: Description, endpoint: Any) -> bool:
    """Whether the peers are on Unix sockets."""
    if isinstance(endpoint, InheritedServerEndpoint):
        return endpoint.inherited.family == socket.AF_UNIX
    return "unix" in (description.prefix, *description.positional[:1])


def makes_file(description: Description) -> bool:
    """Whether it makes the file of a Unix socket."""
    types = (description.prefix, *(each.lower() for each in description.positional[:1]))
    is_path = description.prefix in UNIX_PARTS or types == ("haproxy", "unix")
    return is_path and "abstract" not in description.named


def has_certificates(description: Description) -> bool:
    """Whether the description names files that Twisted reads when it parses it."""
    return description.prefix in ("ssl", "tls")


def factory_with_certificates(reactor: Any, description: Description, factory: Any) -> Any:
    """Return a factory as Twisted wraps it for a description, with the current certificate files.

    Raises ``DescriptionError``.
    """
    looking = LookingStreams(reactor)
    failures: list[Failure] = []
    known, _families = _without_families(description)
    listening = _foreign_endpoint(looking, description, known.text).listen(factory)
    listening.addErrback(failures.append)
    if looking.factory is None or failures:
        raise DescriptionError(f"{description.text!r} could not be read again")
    return looking.factory


def _check_port(description: Description) -> None:
    check_port_first(description)
    text = description.positional[0] if description.positional else description.named.get("port")
    if text is None:
        raise DescriptionError(f"{description.text!r} has no port")
    try:
        port_number(text)
    except ValueError as error:
        raise DescriptionError(f"in {description.text!r}, port: {error}") from None


def _without_families(description: Description) -> tuple[Description, dict[str, bool]]:
    """Take ``ipv6only`` from a description of Twisted's, which does not know it.

    Raises ``DescriptionError`` if it is not valid.
    """
    place = ip_place(description)
    if place is None or place.ipv6only is None:
        return description, {}
    try:
        ipv6only = yes_or_no(place.ipv6only)
    except ValueError as error:
        raise DescriptionError(f"in {description.text!r}, ipv6only: {error}") from None
    check_is_ipv6(description, place.interface)
    named = {name: value for name, value in description.named.items() if name != "ipv6only"}
    text = description_of(description.prefix, *description.positional, **named)
    return attrs.evolve(description, text=text, named=named), {"ipv6only": ipv6only}


# The places of two arguments of Twisted's types, which may be given by position.
_PLACES = {
    "ssl": {"backlog": 5},
    "tls": {"backlog": 2},
    "tcp": {"backlog": 2},
    "tcp6": {"backlog": 1},
    "unix": {"mode": 1, "backlog": 2},
}


def _with_defaults(description: Description, backlog: int, mode: int) -> str:
    """Return a description of Twisted's with our defaults, as far as it takes them."""
    kind, positional = description.prefix, description.positional
    if kind == "haproxy" and positional:  # which passes its arguments on
        kind, positional = positional[0].lower(), positional[1:]
    defaults = {"backlog": str(backlog), "mode": f"{mode:o}"}
    missing = [
        f":{name}={defaults[name]}"
        for name, place in _PLACES.get(kind, {}).items()
        if name not in description.named and len(positional) <= place
    ]
    return "".join([description.text, *missing])


def _foreign_endpoint(reactor: Any, description: Description, text: str) -> Any:
    """Let Twisted and other packages parse a description; turn their errors into one line."""
    known = _known_prefixes()
    if description.prefix not in known:
        raise _unknown_type(description, known | datagram_prefixes())
    try:
        if {"ssl", "tls"}.intersection((description.prefix, *description.positional[:1])):
            import_module("twisted.internet.ssl")  # without it, Twisted raises a NameError
        return serverFromString(reactor, unbracketed(text))
    except ImportError as error:
        raise DescriptionError(
            f"{description.text!r} needs {error.name}: {pip_install('tls')}"
        ) from None
    except OSError as error:
        named = f"{error.filename}: " if error.filename else ""
        raise DescriptionError(
            f"in {description.text!r}: {escaped(named)}{system_reason(error)}"
        ) from None
    except (KeyError, IndexError):
        raise DescriptionError(
            f"in {description.text!r}: no such file descriptor was inherited"
        ) from None
    except Exception as error:
        reason = escaped(str(error)) or type(error).__name__
        raise DescriptionError(f"in {description.text!r}: {reason}") from None


def _unknown_type(description: Description, known: set[str]) -> DescriptionError:
    prefix, *rest = (description.prefix, *description.positional)
    hint = did_you_mean(prefix, sorted(known))
    if len(rest) == 1 and rest[0].isdecimal() and re.search(r"[.:]|^localhost$", prefix):
        hint = f"; write {listening_on('tcp', prefix, rest[0])}"
    return DescriptionError(
        f"in {description.text!r}, the type {prefix!r} is unknown; "
        f"there are {', '.join(sorted(known))}{hint}"
    )


def _known_prefixes() -> set[str]:
    parsers = getPlugins(IStreamServerEndpointStringParser)
    return {"tcp", "unix", "ssl"} | {parser.prefix.lower() for parser in parsers}
