"""Formatting peer data and addresses as text that is safe on an operator's terminal."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress

if TYPE_CHECKING:
    from typing import Self

# The peer of a datagram as its protocol sees it: (host, port), a Unix path, an abstract name
# (bytes that start with a null byte), or ``None`` for an unbound Unix socket.
DatagramPeer = tuple[str, int] | str | bytes | None


def escaped(data: bytes | str) -> str:
    r"""Return text on one line: invalid UTF-8 and unprintable characters as ``\xHH``, ``\uHHHH``.

    So a peer can neither move the cursor of an operator's terminal nor forge a log line. The
    backslash itself is doubled, so that the result shows exactly what was sent.
    """
    text = data.decode("utf-8", "surrogateescape") if isinstance(data, bytes) else data
    return "".join(map(_shown, text))


def as_is_or_escaped(text: str) -> str:
    """Return text as it is if all of it can be printed, as most text can; otherwise escaped."""
    return text if text.isprintable() else escaped(text)


def _shown(character: str) -> str:
    if character == "\\":
        return "\\\\"
    if character.isprintable():
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # PEP 383: a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    if 0x80 <= code <= 0xFF:  # a character; "\\x80" would look like a byte
        return f"\\u{code:04x}"
    return character.encode("unicode_escape").decode("ascii")


_IPV6 = re.compile(r"[0-9a-f]*:[0-9a-f.:]*:[0-9a-f.:]*(%[\w.-]+)?", re.IGNORECASE)
_BRACKETED = re.compile(rf"(?<![^:=])\[({_IPV6.pattern})\](?=:|$)", re.IGNORECASE)


def unbracketed(description: str) -> str:
    """Return a description with its IPv6 addresses as Twisted reads them, ``[::1]`` as ``\\:\\:1``.

    For a description of our own, ``Description.parse`` does the same.
    """
    return _BRACKETED.sub(lambda match: match[1].replace(":", r"\:"), description)


class Count(int):
    """A number of things in a log event or a message, shown as ``1 connection``, ``2 connections``.

    Parameters:
        number: the number.
        one: what follows the number 1.
        many: what follows any other number.
    """

    def __new__(cls, number: int, one: str, many: str) -> Self:
        """Return the number with its words."""
        count = super().__new__(cls, number)
        count._words = one if number == 1 else many
        return count

    _words: str

    def __str__(self) -> str:
        return f"{int(self)} {self._words}"

    def __format__(self, form: str) -> str:
        return super().__format__(form) if form else str(self)


def quoted(argument: str) -> str:
    """Escape an argument for an endpoint description; an IPv6 address gets brackets.

    Twisted's ``quoteStringArgument`` does not escape the equals sign, so ``/run/a=b`` would
    become an argument named ``/run/a``.
    """
    if _IPV6.fullmatch(argument):
        return f"[{argument}]"
    return re.sub(r"([\\:=])", r"\\\1", argument)


def listening_at(address: object) -> str:
    """Return a listener's address as a description: ``tcp:127.0.0.1:7``, ``unix:/run/x``.

    Parameters:
        address: an ``IAddress``, as ``IListeningPort.getHost`` gives it.
    """
    match address:
        case IPv4Address() | IPv6Address():
            return f"{address.type.lower()}:{quoted(address.host)}:{address.port}"
        case UNIXAddress():
            return f"unix:{_unix_name(address.name, quoted)}"
    return str(address)


def spaced(descriptions: Iterable[str]) -> str:
    """Join descriptions with spaces, and quote those that contain spaces."""
    return " ".join(f"'{each}'" if " " in each else each for each in descriptions)


def peer_of_stream(address: object) -> str:
    """Return the name of a connection's peer: ``127.0.0.1, port 40000``, or a Unix path."""
    match address:
        case IPv4Address() | IPv6Address():
            return f"{address.host}, port {address.port}"
        case UNIXAddress():
            return _unix_name(address.name) or "an unnamed Unix socket"
    return escaped(str(address))


def peer_of_datagram(peer: DatagramPeer) -> str:
    """Return the name of a datagram's sender, in the same form as ``peer_of_stream``."""
    if isinstance(peer, tuple):
        return f"{peer[0]}, port {peer[1]}"
    return _unix_name(peer) or "an unnamed Unix socket"


def address_of_datagram(peer: DatagramPeer) -> IPv4Address | IPv6Address | UNIXAddress:
    """Return the sender of a datagram as an ``IAddress``."""
    if isinstance(peer, tuple):
        kind = IPv6Address if ":" in peer[0] else IPv4Address
        return kind("UDP", *peer)
    return UNIXAddress(os.fsencode(peer) if peer is not None else None)


def _unix_name(name: bytes | str | None, quote: Callable[[str], str] = lambda name: name) -> str:
    raw = os.fsencode(name or b"")
    if raw.startswith(b"\0"):
        return f"abstract={quote(escaped(raw[1:]))}"
    return quote(escaped(raw))


def system_reason(error: OSError) -> str:
    """Return the system's own words for an error: ``Connection refused``, ``No space left …``."""
    if error.errno is not None and error.errno in errno.errorcode:
        return os.strerror(error.errno)
    return escaped(str(error.strerror or error))
