"""The PROXY protocol, with which a proxy sends its client's address in a header.

The protocol is HAProxy's, doc/proxy-protocol.txt, versions 1 and 2. The sections named below are
sections of that document.
"""

from __future__ import annotations

import ipaddress
import re
import struct
from collections.abc import Callable, Sequence
from typing import Any, Literal

import attrs
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress

from sockservices.connections.ledger import Reason
from sockservices.connections.networks import Network, Networks, address, network
from sockservices.connections.parts import Context, Part, RunningPart
from sockservices.converters import one_of
from sockservices.settings import setting

Version = Literal["off", "v1", "v2", "any"]
HostAddress = IPv4Address | IPv6Address | UNIXAddress

_LOOPBACK = (network("127.0.0.0/8"), network("::1/128"))


@attrs.frozen
class ProxyProtocol(Part):
    """The PROXY header of connections, and the proxies that may send it."""

    heading = "PROXY protocol"

    proxy_protocol: Version = setting(
        default="off",
        converter=one_of("off", "v1", "v2", "any"),
        unit="version",
        listener="stream",
        help="Require a PROXY header at the start of each connection: v1, v2 or any of them. "
        "The service and the limits use the addresses in the header.",
    )
    proxy_allow_from: Sequence[Network] = setting(
        default=_LOOPBACK,
        converter=network,
        unit="network",
        repeated=True,
        needs="proxy_protocol",
        help="Accept connections only from proxies in this network. Peers on Unix sockets are "
        "always accepted.",
    )

    def begin(self, context: Context) -> RunningProxyProtocol:
        """See ``Part.begin``."""
        return RunningProxyProtocol(self, context)

    def objection(self, listener: Any) -> str | None:
        """See ``Part.objection``."""
        reads_itself = self.proxy_protocol != "off" and listener.reads_proxy_headers
        objection = "already reads PROXY headers; do not enable the PROXY protocol as well"
        return objection if reads_itself else None


class RunningProxyProtocol(RunningPart[ProxyProtocol]):
    """The part that admits only proxies, and reads their headers."""

    def apply(self, settings: ProxyProtocol, prepared: object) -> None:
        """See ``RunningPart.apply``."""
        self.settings = settings
        self._proxies = Networks(settings.proxy_allow_from)
        is_on = settings.proxy_protocol != "off"
        self.ask_socket = self._refuses if is_on else None
        self.header = self._reader if is_on else None

    def _refuses(self, peer: IAddress, _accepted: object) -> Reason | None:
        host = address(getattr(peer, "host", ""))
        is_proxy = host is None or self._proxies.specificity(host) >= 0
        return None if is_proxy else "proxy-allow-from"

    def _reader(self, found: Callable[..., None], failed: Callable[..., None]) -> HeaderReader:
        def refuse(transport: Any, error: HeaderError) -> None:
            failed(transport, "proxy-header", str(error))

        return HeaderReader(self.settings.proxy_protocol, found, refuse)


class HeaderReader:
    """The protocol of a connection until its header has been read.

    Parameters:
        version: the version of the header.
        found: called with the transport, the ``Header`` and the bytes that came after it.
        failed: called with the transport and a ``HeaderError``.
    """

    def __init__(
        self, version: Version, found: Callable[..., None], failed: Callable[..., None]
    ) -> None:
        self._version = version
        self._found = found
        self._failed = failed
        self._begun = bytearray()

    def makeConnection(self, transport: Any) -> None:
        """See ``IProtocol``."""
        self._transport = transport

    def dataReceived(self, data: bytes) -> None:
        """Look for the end of the header."""
        self._begun += data
        try:
            read = read_header(self._begun, self._version)
        except HeaderError as error:
            self._failed(self._transport, error)
            return
        if read is not None:
            header, end = read
            self._found(self._transport, header, bytes(self._begun[end:]))

    def connectionLost(self, reason: Any) -> None:
        """See ``IProtocol``; the transport reports the end to the ledger."""


@attrs.frozen
class Header:
    """The addresses in a header; there are none if the connection is the proxy's own."""

    source: HostAddress | None = None
    destination: HostAddress | None = None


class HeaderError(ValueError):
    """The error for data that is not a header of the expected version."""


def read_header(data: bytes | bytearray, version: Version) -> tuple[Header, int] | None:
    """Read the header at the beginning of the data from a proxy.

    Returns the header and its length in bytes, or ``None`` if more data is needed. Raises
    ``HeaderError`` as soon as the data cannot become a header.
    """
    for name, signature, read in _VERSIONS:
        if version in (name, "any") and data[: len(signature)] == signature[: len(data)]:
            return read(data) if len(data) >= len(signature) else None
    wanted = "PROXY header" if version == "any" else f"PROXY header of version {version[1]}"
    raise HeaderError(f"it begins with {bytes(data[:16])!r}, not with a {wanted}")


_V1_SIGNATURE = b"PROXY "
_V1_LONGEST = 107  # bytes: section 2.1
_V1_PORT = re.compile(r"0|[1-9][0-9]{0,4}")


def _read_v1(data: bytes | bytearray) -> tuple[Header, int] | None:
    end = data.find(b"\r\n", 0, _V1_LONGEST)
    if end < 0:
        if len(data) >= _V1_LONGEST:
            raise HeaderError(f"its line does not end within {_V1_LONGEST} bytes")
        return None
    line = data[len(_V1_SIGNATURE) : end].decode("ascii", "backslashreplace")
    return _v1_header(line), end + 2


def _v1_header(line: str) -> Header:
    family, *rest = line.split(" ")
    if family == "UNKNOWN":  # the rest of the line must be ignored
        return Header()
    try:
        source, destination, *ports = rest
        source_port, destination_port = map(_v1_port, ports)
        return _internet(
            {"TCP4": 4, "TCP6": 6}[family], source, source_port, destination, destination_port
        )
    except (KeyError, ValueError):
        raise HeaderError(f"its line is not valid: {line!r}") from None


def _v1_port(text: str) -> int:
    if _V1_PORT.fullmatch(text) is None or int(text) > 65535:
        raise ValueError(text)
    return int(text)


_V2_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_V2_FIXED = struct.Struct("!12xBBH")
_V2_LOCAL, _V2_PROXY = 0x20, 0x21  # version and command
_V2_ADDRESSES = {
    4: struct.Struct("!4s4sHH"),
    6: struct.Struct("!16s16sHH"),
}
_V2_UNIX = struct.Struct("!108s108s")


def _read_v2(data: bytes | bytearray) -> tuple[Header, int] | None:
    if len(data) < _V2_FIXED.size:
        return None
    command, kind, length = _V2_FIXED.unpack_from(data)
    if command not in (_V2_LOCAL, _V2_PROXY):
        raise HeaderError(f"its version and command are not valid: 0x{command:02x}")
    family, transport = kind >> 4, kind & 0xF
    # For LOCAL, everything after this must be ignored, including the family: section 2.2.
    if command == _V2_PROXY and (family > 3 or transport > 2):
        raise HeaderError(f"its address family and transport are not valid: 0x{kind:02x}")
    end = _V2_FIXED.size + length
    if len(data) < end:
        return None
    is_unspecified = family == 0 or transport == 0  # must be treated as LOCAL
    if command == _V2_LOCAL or is_unspecified:
        return Header(), end
    # The addresses are followed by TLVs, which we ignore.
    try:
        return _v2_header(family, data[_V2_FIXED.size : end]), end
    except struct.error:
        raise HeaderError(f"its addresses do not fit in {length} bytes") from None


def _v2_header(family: int, body: bytes | bytearray) -> Header:
    if family == 3:
        names = [UNIXAddress(_until_zero(raw)) for raw in _V2_UNIX.unpack_from(body)]
        return Header(*names)
    version = {1: 4, 2: 6}[family]
    source, destination, *ports = _V2_ADDRESSES[version].unpack_from(body)
    return _internet(version, source, ports[0], destination, ports[1])


def _until_zero(name: bytes) -> bytes | None:
    # An abstract name begins with a zero byte and extends to the end: unix(7).
    abstract = name[:1] == b"\0" and name.strip(b"\0")
    return (name.rstrip(b"\0") if abstract else name.partition(b"\0")[0]) or None


def _internet(
    version: int,
    source: str | bytes,
    source_port: int,
    destination: str | bytes,
    destination_port: int,
) -> Header:
    read, kind = (
        (ipaddress.IPv4Address, IPv4Address)
        if version == 4
        else (ipaddress.IPv6Address, IPv6Address)
    )
    if isinstance(source, str) and ("%" in source or "%" in str(destination)):
        raise ValueError("a scope is not allowed here")
    return Header(
        kind("TCP", str(read(source)), source_port),
        kind("TCP", str(read(destination)), destination_port),
    )


_Reader = Callable[[bytes | bytearray], tuple[Header, int] | None]
_VERSIONS: tuple[tuple[Version, bytes, _Reader], ...] = (
    ("v1", _V1_SIGNATURE, _read_v1),
    ("v2", _V2_SIGNATURE, _read_v2),
)
