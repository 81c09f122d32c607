"""What peers send and where they are, as text that is safe on an operator's terminal."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterable

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress

# What a datagram protocol is told as its peer: (host, port), a Unix path, an abstract name
# (bytes that start with a zero) or, for an unbound Unix peer, nothing.
DatagramPeer = tuple[str, int] | str | bytes | None


def escaped(data: bytes | str) -> str:
    r"""Show text on one line: what is not UTF-8 or not printable comes as ``\xHH`` or ``\uHHHH``.

    A peer can thus neither move the cursor of an operator's terminal nor forge a line of a log.
    The backslash itself is doubled, so that what is shown says exactly what was sent.
    """
    text = data.decode("utf-8", "surrogateescape") if isinstance(data, bytes) else data
    return "".join(map(_shown, text))


def _shown(character: str) -> str:
    if character == "\\":
        return "\\\\"
    if character.isprintable():
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8, by PEP 383
        return f"\\x{code - 0xDC00:02x}"
    if 0x80 <= code <= 0xFF:  # a character, which "\\x80" would show as a byte
        return f"\\u{code:04x}"
    return character.encode("unicode_escape").decode("ascii")


def quoted(argument: str) -> str:
    """Escape an argument for an endpoint description.

    Twisted's ``quoteStringArgument`` leaves the equals sign as it is, which makes ``/run/a=b``
    an argument named ``/run/a``.
    """
    return re.sub(r"([\\:=])", r"\\\1", argument)


def listening_at(address: object) -> str:
    """Show where a listener is as an endpoint description: ``tcp:127.0.0.1:7``, ``unix:/run/x``.

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
    """Show descriptions in one line with spaces between; one that has spaces is in quotes."""
    return " ".join(f"'{each}'" if " " in each else each for each in descriptions)


def peer_of_stream(address: object) -> str:
    """Name a connection's peer: ``127.0.0.1, port 40000``, or the path of a Unix peer."""
    match address:
        case IPv4Address() | IPv6Address():
            return f"{address.host}, port {address.port}"
        case UNIXAddress():
            return _unix_name(address.name) or "an unnamed Unix socket"
    return escaped(str(address))


def peer_of_datagram(peer: DatagramPeer) -> str:
    """Name the sender of a datagram, in the same words as ``peer_of_stream``."""
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
    """Say why the system refused, in its own words: ``Connection refused``, ``No space left …``."""
    if error.errno is not None and error.errno in errno.errorcode:
        return os.strerror(error.errno)
    return escaped(str(error.strerror or error))
