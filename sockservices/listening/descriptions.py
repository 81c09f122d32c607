"""The syntax of endpoint descriptions, which is Twisted's (``serverFromString``).

``prefix:argument:name=value``, with a backslash before a literal colon, equals sign or backslash.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Collection, Mapping
from typing import Any

import attrs
from twisted.internet.abstract import isIPAddress, isIPv6Address

from sockservices.converters import group_id, octal_mode, user_id, whole_number, yes_or_no
from sockservices.errors import DescriptionError
from sockservices.printable import escaped, quoted, unbracketed
from sockservices.transports import Access
from sockservices.transports.binding import Binding, check_freebind, device_name
from sockservices.transports.multicast import Group

_PART = re.compile(r"((?:\\.|[^\\:])*)(:|$)", re.DOTALL)
_NAMED = re.compile(r"((?:\\.|[^\\=])*)=(.*)", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)

_ONLY_BY_NAME = ("ipv6only", "abstract", "owner", "group", "join", "freebind", "device")
"""The arguments that Twisted's types do not have."""

# sizeof(sun_path) less the terminating null byte: unix(7), and sys/un.h on the BSDs and macOS.
PATH_LIMIT = 107 if sys.platform == "linux" else 103

port_number = whole_number(0, 65535)
backlog_length = whole_number(1, 2**31 - 1)
buffer_size = whole_number(1, 2**30 - 1)  # Linux doubles it, and keeps it in an int: socket(7)


def ip_address(value: str) -> str:
    """Check that a value is a numeric IPv4 or IPv6 address; raise ``ValueError``."""
    text = str(value)  # an object of the module ipaddress, too
    if isIPAddress(text) or isIPv6Address(text):
        return text
    raise ValueError(f"{value!r} is not an IPv4 or IPv6 address")


def multicast_groups(value: str) -> list[Group]:
    """Read multicast groups, separated by commas; raise ``ValueError``."""
    return [Group.parse(each) for each in value.split(",")]


def not_empty(value: str | os.PathLike[str]) -> str:
    """Check that a text or path is not empty; raise ``ValueError``."""
    if not value:
        raise ValueError("is empty")
    return os.fspath(value)


@attrs.frozen
class Description:
    """A parsed endpoint description."""

    text: str
    prefix: str
    positional: tuple[str, ...]
    named: Mapping[str, str]

    @classmethod
    def parse(cls, text: str) -> Description:
        """Parse a description; raise ``DescriptionError`` if its syntax is wrong."""
        positional: list[str] = []
        named: dict[str, str] = {}
        readable = unbracketed(text)
        start = 0
        while True:
            match = _PART.match(readable, start)
            if match is None:
                raise DescriptionError(f"{text!r} ends with a backslash that escapes nothing")
            part, end = match.groups()
            if pair := _NAMED.fullmatch(part):
                name = _unescaped(pair[1])
                if name in named:
                    raise DescriptionError(f"in {text!r}, {escaped(name)} is given twice")
                named[name] = _unescaped(pair[2])
            else:
                positional.append(_unescaped(part))
            start = match.end()
            if not end:
                break
        if len(positional) + len(named) < 2 or not positional or not positional[0]:
            raise DescriptionError(
                f"{text!r} is not an endpoint description: expected TYPE:ARGUMENT, such as tcp:7, "
                "unix:/run/x, udp:7 or unixgram:/run/x"
            )
        return cls(text, positional[0].lower(), tuple(positional[1:]), named)

    def arguments(self, parts: Collection[str], required: str | None = None) -> dict[str, str]:
        """Return the arguments by name; Twisted's may also be given in the order of these parts.

        Raises ``DescriptionError``, which names the unknown, repeated or missing part.
        """
        by_place = [name for name in parts if name not in _ONLY_BY_NAME]
        given: dict[str, str] = {}
        if next(iter(parts)) == "port":
            check_port_first(self)
        if "" in self.positional[1:]:
            raise DescriptionError(
                f"in {self.text!r}, an argument is empty; write an IPv6 address in brackets, and "
                "another colon in an argument as \\:"
            )
        if len(self.positional) > len(by_place):
            extra = self.positional[len(by_place)]
            raise DescriptionError(f"in {self.text!r}, {extra!r} is one argument too many")
        given.update(zip(by_place, self.positional, strict=False))
        for name, value in self.named.items():
            if name not in parts:
                raise DescriptionError(
                    f"in {self.text!r}, {name!r} is unknown: {self.prefix} takes {', '.join(parts)}"
                )
            if name in given:
                raise DescriptionError(f"in {self.text!r}, {name} is given twice")
            given[name] = value
        if required is not None and required not in given:
            raise DescriptionError(f"{self.text!r} has no {required}")
        return given

    def values(
        self, parts: Mapping[str, Callable[[str], Any]], required: str | None = None
    ) -> dict[str, Any]:
        """Convert the arguments to these parts; see ``arguments``.

        Raises ``DescriptionError``, which names the unknown, wrong, repeated or missing part.
        """
        values = {}
        for name, value in self.arguments(parts, required).items():
            try:
                values[name] = parts[name](value)
            except ValueError as error:
                raise DescriptionError(f"in {self.text!r}, {name}: {error}") from None
        return values


def description_of(prefix: str, *positional: str, **named: object) -> str:
    """Return a description, escaped where needed, without the arguments that are ``None``."""
    pairs = [f"{name}={quoted(str(value))}" for name, value in named.items() if value is not None]
    return ":".join([prefix, *map(quoted, positional), *pairs])


def _unescaped(text: str) -> str:
    return _ESCAPED.sub(r"\1", text)


def checked_path(path: str) -> bytes:
    """Return a path as bytes; raise ``DescriptionError`` if the system cannot bind to it."""
    raw = _checked_length(path, "path")
    if b"\0" in raw:
        raise DescriptionError(f"the Unix socket path {escaped(raw)!r} contains a null byte")
    return raw


def abstract_address(name: str) -> bytes:
    """Return the address of an abstract name (unix(7)); raise ``DescriptionError``."""
    return b"\0" + _checked_length(name, "name")


def _checked_length(text: str, what: str) -> bytes:
    try:
        raw = os.fsencode(text)
    except UnicodeEncodeError:
        raise DescriptionError(
            f"the Unix socket {what} {escaped(text)} cannot be encoded"
        ) from None
    if len(raw) > PATH_LIMIT:
        raise DescriptionError(
            f"the Unix socket {what} {escaped(raw)} is {len(raw)} bytes long; "
            f"the limit on this system is {PATH_LIMIT}"
        )
    return raw


def _freebind(value: str) -> bool:
    return check_freebind(yes_or_no(value))


_BINDING_PARTS: Mapping[str, Callable[[str], Any]] = {
    "freebind": _freebind,
    "device": device_name,
}
_TCP_PARTS: Mapping[str, Callable[[str], Any]] = {
    "port": port_number,
    "interface": ip_address,
    "backlog": backlog_length,
    "ipv6only": yes_or_no,
    **_BINDING_PARTS,
}
_TCP6_PARTS: Mapping[str, Callable[[str], Any]] = {
    "port": port_number,
    "backlog": backlog_length,
    "interface": ip_address,
    "ipv6only": yes_or_no,
    **_BINDING_PARTS,
}
_UDP_PARTS: Mapping[str, Callable[[str], Any]] = {
    "port": port_number,
    "interface": ip_address,
    "ipv6only": yes_or_no,
    "join": multicast_groups,
    **_BINDING_PARTS,
}
IP_PARTS = {"tcp": _TCP_PARTS, "tcp6": _TCP6_PARTS, "udp": _UDP_PARTS}
"""The arguments of the descriptions of IP sockets, by type."""


def check_port_first(description: Description) -> None:
    """Raise ``DescriptionError`` for ``tcp:HOST:PORT``, which is where a client connects to."""
    *host, port = description.positional or ("",)
    if host and not host[0].isdecimal() and port.isdecimal():
        name = "::" if host == ["", ""] else ":".join(host)  # ss(8) shows :::7
        right = listening_on(description.prefix, name, port)
        hint = f": write {right}" if right.isprintable() else ""
        raise DescriptionError(f"in {description.text!r}, the port comes first{hint}")


def listening_on(prefix: str, host: str, port: str) -> str:
    """Return the description of a listener on a port of a host of this machine."""
    return description_of(prefix, port, interface=None if host in ("", "*") else host)


def ip_values(description: Description) -> dict[str, Any]:
    """Convert the arguments of a description in ``IP_PARTS``; raise ``DescriptionError``."""
    values = description.values(IP_PARTS[description.prefix], required="port")
    values.setdefault("interface", "::" if description.prefix == "tcp6" else "")
    if "ipv6only" in values:
        check_is_ipv6(description, values["interface"])
    for group in values.get("join", ()):
        _check_receives(description, values["interface"], group)
    binding = {name: values.pop(name) for name in _BINDING_PARTS if name in values}
    if binding:
        values["binding"] = Binding(**binding)
    return values


def _check_receives(description: Description, interface: str, group: Group) -> None:
    """Raise ``DescriptionError`` if a socket on an address cannot receive what a group gets."""
    if group.is_ipv6 != (":" in interface):
        needs = r"an IPv6 one: add interface=\:\:" if group.is_ipv6 else "an IPv4 one"
        raise DescriptionError(
            f"in {description.text!r}, join: {group} needs a socket that is {needs}"
        )
    if interface.partition("%")[0] not in ("", "0.0.0.0", "::", group.address):
        raise DescriptionError(
            f"in {description.text!r}, interface: a socket on {interface} receives nothing that is "
            f"sent to {group}; to choose a network interface, write join={group.address}%eth0"
        )


def check_is_ipv6(description: Description, interface: str) -> None:
    """Raise ``DescriptionError`` if ``ipv6only`` means nothing for an address."""
    if ":" not in interface:
        raise DescriptionError(
            f"in {description.text!r}, ipv6only: the address is not an IPv6 one, such as "
            "interface=[::]"
        )


_FILE_PARTS: Mapping[str, Callable[[str], Any]] = {"owner": user_id, "group": group_id}
_UNIX_PARTS: Mapping[str, Callable[[str], Any]] = {
    "address": not_empty,
    "mode": octal_mode,
    "backlog": backlog_length,
    "lockfile": yes_or_no,
    "abstract": not_empty,
    **_FILE_PARTS,
}
_UNIXGRAM_PARTS: Mapping[str, Callable[[str], Any]] = {
    "address": not_empty,
    "mode": octal_mode,
    "abstract": not_empty,
    **_FILE_PARTS,
}
UNIX_PARTS = {"unix": _UNIX_PARTS, "unixgram": _UNIXGRAM_PARTS}
"""The arguments of the descriptions of Unix sockets, by type."""


def unix_values(description: Description, access: Access) -> dict[str, Any]:
    """Convert the arguments of a description in ``UNIX_PARTS``.

    Parameters:
        access: who may use the socket file, unless the description says so.

    Returns them with the ``address`` as bytes, for bind(2), and the ``access``. Raises
    ``DescriptionError``.
    """
    values = description.values(UNIX_PARTS[description.prefix])
    if ("address" in values) == ("abstract" in values):
        raise DescriptionError(f"{description.text!r} needs either a path or abstract=NAME")
    if "abstract" in values:
        for name in ("mode", "lockfile", *_FILE_PARTS):
            if name in values:
                raise DescriptionError(
                    f"in {description.text!r}, {name}: an abstract name has no file"
                )
        values["address"] = abstract_address(values.pop("abstract"))
    else:
        values["address"] = checked_path(values["address"])
    own = {name: values.pop(name) for name in ("mode", *_FILE_PARTS) if name in values}
    return {**values, "access": attrs.evolve(access, **own)}
