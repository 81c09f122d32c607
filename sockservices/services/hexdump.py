"""Hex dump: prints each datagram, or each read of a stream, as hex."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, TypeAlias

import attrs
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import DatagramProtocol, Protocol, ServerFactory
from zope.interface import implementer

from sockservices.converters import one_of, whole_number
from sockservices.exit import stop_process
from sockservices.output import Output, Source
from sockservices.printable import DatagramPeer, peer_of_datagram, peer_of_stream
from sockservices.service import (
    IBatchReceiver,
    IDatagramFactory,
    IPausesListeners,
    ITruncationReceiver,
)
from sockservices.settings import setting

_ASCII = bytes(code if 0x20 <= code < 0x7F else 0x2E for code in range(256))


# Formats one datagram, or one read of a stream, as text. The arguments are its bytes, its original
# length, whether it was truncated, and its sender: an ``IAddress``, or what ``datagramReceived``
# gives.
Format: TypeAlias = Callable[[bytes, int, bool, Any], str]


def plain(data: bytes, size: int, truncated: bool, _peer: Any) -> str:
    """Return one line, with each byte as two lower-case digits and a space."""
    digits = data.hex(" ")
    ending = f"{_truncation(data, size)}\n" if truncated else "\n"
    return f"{digits} {ending}" if digits else ending


def canonical(data: bytes, size: int, truncated: bool, _peer: Any) -> str:
    """Return what ``hexdump -C`` (hexdump(1)) prints: offsets, two groups of eight, ASCII.

    Repeated lines, except the first, become one ``*``. An empty datagram, for which hexdump prints
    nothing, becomes its end offset.
    """
    lines = [*_canonical_lines(data), f"{len(data):08x}"]
    if truncated:
        lines.append(_truncation(data, size))
    return "\n".join(lines) + "\n"


def _canonical_lines(data: bytes) -> Iterator[str]:
    previous, squeezing = b"", False
    for offset in range(0, len(data), 16):
        row = data[offset : offset + 16]
        if row == previous:
            if not squeezing:
                yield "*"
            squeezing = True
            continue
        previous, squeezing = row, False
        text = row.translate(_ASCII).decode("ascii")
        yield f"{offset:08x}  {row[:8].hex(' '):<23}  {row[8:].hex(' '):<23}  |{text}|"


def json_line(data: bytes, size: int, truncated: bool, peer: Any) -> str:
    """Return one JSON object on one line: time (RFC 3339), peer, size, hex, truncated."""
    fields = {
        "time": datetime.now(UTC).isoformat(timespec="microseconds"),
        "peer": _name(peer),
        "size": size,
        "hex": data.hex(),
        "truncated": truncated,
    }
    return json.dumps(fields) + "\n"


def _name(peer: Any) -> str:
    return peer_of_stream(peer) if IAddress.providedBy(peer) else peer_of_datagram(peer)


def _truncation(data: bytes, size: int) -> str:
    return f"[truncated: {len(data)} of {size} bytes]"


_FORMATS: dict[str, Format] = {
    "plain": plain,
    "canonical": canonical,
    "json": json_line,
}


class StreamHexdump(Protocol):
    """One connection, whose reads are dumped."""

    transport: Any

    def __init__(self, options: HexdumpFactory) -> None:
        self._options = options

    def connectionMade(self) -> None:
        """Be paused with the others when the output is full."""
        self._options._output.add_source(self.transport)

    def connectionLost(self, reason: Any = None) -> None:
        """See ``IProtocol.connectionLost``."""
        self._options._output.remove_source(self.transport)

    def dataReceived(self, data: bytes) -> None:
        """Dump one read."""
        text = self._options.show(data, len(data), False, self.transport.getPeer())
        self._options.dump([text], self.transport)


@implementer(IBatchReceiver, ITruncationReceiver)
class DatagramHexdump(DatagramProtocol):
    """One listener, whose datagrams are dumped."""

    noisy = False

    transport: Any

    def __init__(self, options: HexdumpFactory) -> None:
        self._options = options
        self.max_datagram_size = options.max_size

    def datagramReceived(self, datagram: bytes, addr: DatagramPeer) -> None:
        """Dump one datagram."""
        self.datagrams_received([(datagram, addr)])

    def datagrams_received(self, datagrams: list[tuple[bytes, DatagramPeer]]) -> None:
        """See ``IBatchReceiver``."""
        show = self._options.show
        texts = [show(data, len(data), False, peer) for data, peer in datagrams]
        self._options.dump(texts, self.transport)

    def datagram_truncated(self, data: bytes, size: int, peer: DatagramPeer) -> None:
        """Dump the beginning of a datagram longer than ``max_size``, marked as truncated."""
        self._options.dump([self._options.show(data, size, True, peer)], self.transport)


@implementer(IDatagramFactory, IPausesListeners)
@attrs.define(eq=False, slots=False)
class HexdumpFactory(ServerFactory):
    """A factory whose listeners all dump to one output, with one count."""

    format: str = setting(
        default="plain",
        converter=one_of(*_FORMATS),
        unit="|".join(_FORMATS),
        help="Print hex bytes on one line (plain), like hexdump -C (canonical), or JSON (json).",
    )
    count: int | None = setting(
        default=None,
        converter=whole_number(least=1),
        help="Exit after dumping this many datagrams or reads.",
    )
    max_size: int = setting(
        default=65536,
        converter=whole_number(least=1, most=1 << 24),
        unit="bytes",
        help="Truncate datagrams to this many bytes, and mark truncated ones.",
    )
    output: str | None = setting(
        default=None, unit="path", help="Append to this file instead of standard output."
    )
    _output: Output = attrs.field(init=False)
    _dumped: int = attrs.field(init=False, default=0)
    noisy = False

    def __attrs_post_init__(self) -> None:
        self._output = Output(self.output)
        self.show = _FORMATS[self.format]

    def buildProtocol(self, addr: object) -> StreamHexdump:
        """See ``IProtocolFactory.buildProtocol``."""
        return StreamHexdump(self)

    def build_datagram_protocol(self) -> DatagramHexdump:
        """See ``IDatagramFactory``."""
        return DatagramHexdump(self)

    def add_listeners(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        """See ``IPausesListeners``."""
        self._output.add_listeners(pause, resume)

    def dump(self, texts: list[str], source: Source) -> None:
        """Print formatted records in order; stop the process after ``count`` of them."""
        if self.count is not None:
            texts = texts[: self.count - self._dumped]  # nothing after the last is printed
        if texts:
            self._output.write_texts(texts, source)
            self._dumped += len(texts)
            if self._dumped == self.count:
                self._output.end(then=stop_process)
        if self._dumped == self.count:
            source.pauseProducing()
