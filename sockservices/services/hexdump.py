"""Hex dump: prints each datagram, or each read of a stream, as hex."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from typing import Any, NamedTuple, TypeAlias

import attrs
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import DatagramProtocol, Protocol, ServerFactory
from zope.interface import implementer

from sockservices.converters import one_of, whole_number
from sockservices.ending import stop_process
from sockservices.interfaces import IBatchReceiver, IDatagramFactory, ITruncationReceiver
from sockservices.options import option
from sockservices.output import Output, Source
from sockservices.printable import DatagramPeer, peer_of_datagram, peer_of_stream

_ASCII = bytes(code if 0x20 <= code < 0x7F else 0x2E for code in range(256))


class Record(NamedTuple):
    """One datagram, or one read of a stream. A plain tuple of the same will do, and is cheaper."""

    data: bytes
    size: int  # the datagram's own length in bytes; more than len(data) when it was cut
    truncated: bool
    peer: Any  # an IAddress, or what datagramReceived gives


Fields: TypeAlias = tuple[bytes, int, bool, Any]


def plain(record: Fields) -> str:
    """Write each byte as two lower-case digits and a space, and the record as one line."""
    data, size, truncated, _ = record
    digits = data.hex(" ")
    ending = f"{_cut(data, size)}\n" if truncated else "\n"
    return f"{digits} {ending}" if digits else ending


def canonical(record: Fields) -> str:
    """Write what ``hexdump -C`` (hexdump(1)) prints: offsets, two groups of eight, ASCII.

    Of repeated lines all but the first become one ``*``. An empty datagram, of which hexdump
    prints nothing, is shown by its end offset.
    """
    data, size, truncated, _ = record
    lines = [*_canonical_lines(data), f"{len(data):08x}"]
    if truncated:
        lines.append(_cut(data, size))
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


def json_line(record: Fields) -> str:
    """Write one JSON object on one line: time (RFC 3339), peer, size, hex, truncated."""
    data, size, truncated, peer = record
    fields = {
        "time": datetime.now(timezone.utc).isoformat(timespec="microseconds"),
        "peer": _peer(peer),
        "size": size,
        "hex": data.hex(),
        "truncated": truncated,
    }
    return json.dumps(fields) + "\n"


def _peer(peer: Any) -> str:
    return peer_of_stream(peer) if IAddress.providedBy(peer) else peer_of_datagram(peer)


def _cut(data: bytes, size: int) -> str:
    return f"[cut: {len(data)} of {size} bytes]"


_FORMATS: dict[str, Callable[[Fields], str]] = {
    "plain": plain,
    "canonical": canonical,
    "json": json_line,
}


class StreamHexdump(Protocol):
    """One connection whose reads are dumped."""

    transport: Any

    def __init__(self, dump: Callable[[Sequence[Fields], Source], None]) -> None:
        self._dump = dump

    def dataReceived(self, data: bytes) -> None:
        """Dump one read."""
        record = Record(data, len(data), False, self.transport.getPeer())
        self._dump([record], self.transport)


@implementer(IBatchReceiver, ITruncationReceiver)
class DatagramHexdump(DatagramProtocol):
    """One listener whose datagrams are dumped."""

    noisy = False

    transport: Any

    def __init__(self, dump: Callable[[Sequence[Fields], Source], None], max_size: int) -> None:
        self._dump = dump
        self.max_datagram_size = max_size

    def datagramReceived(self, datagram: bytes, addr: DatagramPeer) -> None:
        """Dump one datagram."""
        self.datagrams_received([(datagram, addr)])

    def datagrams_received(self, datagrams: list[tuple[bytes, DatagramPeer]]) -> None:
        """See ``IBatchReceiver``."""
        self._dump([(data, len(data), False, peer) for data, peer in datagrams], self.transport)

    def datagram_truncated(self, data: bytes, size: int, peer: DatagramPeer) -> None:
        """Dump what was read of one that is longer than ``max_size``, marked as cut."""
        self._dump([Record(data, size, True, peer)], self.transport)


@implementer(IDatagramFactory)
@attrs.define(eq=False, slots=False)
class HexdumpFactory(ServerFactory):
    """Dumps what all its listeners receive to one output, with one count."""

    format: str = option(
        default="plain",
        converter=one_of(*_FORMATS),
        help="plain: bytes as hex, a line each; canonical: as hexdump -C; json: an object a line.",
    )
    count: int | None = option(
        default=None,
        converter=attrs.converters.optional(whole_number(least=1)),
        help="Exit after this many datagrams or reads.",
    )
    max_size: int = option(
        default=65536,
        converter=whole_number(least=1, most=1 << 24),
        help="Datagrams longer than this many bytes are cut there and marked as cut.",
    )
    output: str | None = option(
        default=None, help="Append to this file instead of standard output."
    )
    _output: Output = attrs.field(init=False)
    _dumped: int = attrs.field(init=False, default=0)
    noisy = False

    def __attrs_post_init__(self) -> None:
        self._output = Output(self.output)
        self._format = _FORMATS[self.format]

    def buildProtocol(self, addr: object) -> StreamHexdump:
        """See ``IProtocolFactory.buildProtocol``."""
        return StreamHexdump(self.dump)

    def build_datagram_protocol(self) -> DatagramHexdump:
        """See ``IDatagramFactory``."""
        return DatagramHexdump(self.dump, self.max_size)

    def dump(self, records: Sequence[Fields], source: Source) -> None:
        """Print records; after the last of ``count``, stop the process."""
        if self.count is not None:
            records = records[: self.count - self._dumped]  # what comes after the last is not shown
        if records:
            form = self._format
            self._output.write_many([form(record).encode("ascii") for record in records], source)
            self._dumped += len(records)
            if self._dumped == self.count:
                self._output.end(then=stop_process)
        if self._dumped == self.count:
            source.pauseProducing()
