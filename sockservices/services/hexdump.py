"""Hex dump: prints each datagram, or each read of a stream, as hex."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from typing import Any, TypeAlias

import attrs
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import DatagramProtocol, Protocol, ServerFactory
from zope.interface import implementer

from sockservices.converters import one_of, whole_number
from sockservices.exit import stop_process
from sockservices.output import Output, Source
from sockservices.printable import DatagramPeer, peer_of_datagram, peer_of_stream
from sockservices.service import IBatchReceiver, IDatagramFactory, ITruncationReceiver
from sockservices.settings import setting

_ASCII = bytes(code if 0x20 <= code < 0x7F else 0x2E for code in range(256))


# Shows one datagram, or one read of a stream, as text: its bytes, its own length (more than these
# if it was cut), whether it was cut, and its sender: an ``IAddress``, or what ``datagramReceived``
# gives.
Format: TypeAlias = Callable[[bytes, int, bool, Any], str]


def plain(data: bytes, size: int, truncated: bool, _peer: Any) -> str:
    """Write each byte as two lower-case digits and a space, and the record as one line."""
    digits = data.hex(" ")
    ending = f"{_cut(data, size)}\n" if truncated else "\n"
    return f"{digits} {ending}" if digits else ending


def canonical(data: bytes, size: int, truncated: bool, _peer: Any) -> str:
    """Write what ``hexdump -C`` (hexdump(1)) prints: offsets, two groups of eight, ASCII.

    Of repeated lines all but the first become one ``*``. An empty datagram, of which hexdump
    prints nothing, is shown by its end offset.
    """
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


def json_line(data: bytes, size: int, truncated: bool, peer: Any) -> str:
    """Write one JSON object on one line: time (RFC 3339), peer, size, hex, truncated."""
    fields = {
        "time": datetime.now(timezone.utc).isoformat(timespec="microseconds"),
        "peer": _name(peer),
        "size": size,
        "hex": data.hex(),
        "truncated": truncated,
    }
    return json.dumps(fields) + "\n"


def _name(peer: Any) -> str:
    return peer_of_stream(peer) if IAddress.providedBy(peer) else peer_of_datagram(peer)


def _cut(data: bytes, size: int) -> str:
    return f"[cut: {len(data)} of {size} bytes]"


_FORMATS: dict[str, Format] = {
    "plain": plain,
    "canonical": canonical,
    "json": json_line,
}


class StreamHexdump(Protocol):
    """One connection whose reads are dumped."""

    transport: Any

    def __init__(self, options: HexdumpFactory) -> None:
        self._options = options

    def dataReceived(self, data: bytes) -> None:
        """Dump one read."""
        text = self._options.show(data, len(data), False, self.transport.getPeer())
        self._options.dump([text], self.transport)


@implementer(IBatchReceiver, ITruncationReceiver)
class DatagramHexdump(DatagramProtocol):
    """One listener whose datagrams are dumped."""

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
        """Dump what was read of one that is longer than ``max_size``, marked as cut."""
        self._options.dump([self._options.show(data, size, True, peer)], self.transport)


@implementer(IDatagramFactory)
@attrs.define(eq=False, slots=False)
class HexdumpFactory(ServerFactory):
    """Dumps what all its listeners receive to one output, with one count."""

    format: str = setting(
        default="plain",
        converter=one_of(*_FORMATS),
        unit="|".join(_FORMATS),
        help="plain: bytes as hex, a line each; canonical: as hexdump -C; json: an object a line.",
    )
    count: int | None = setting(
        default=None,
        converter=whole_number(least=1),
        help="Exit after this many datagrams or reads.",
    )
    max_size: int = setting(
        default=65536,
        converter=whole_number(least=1, most=1 << 24),
        unit="bytes",
        help="Datagrams longer than this many bytes are cut there and marked as cut.",
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

    def dump(self, texts: list[str], source: Source) -> None:
        """Print what ``show`` gave, one after the other; after the last of ``count``, stop."""
        if self.count is not None:
            texts = texts[: self.count - self._dumped]  # what comes after the last is not shown
        if texts:
            self._output.write_texts(texts, source)
            self._dumped += len(texts)
            if self._dumped == self.count:
                self._output.end(then=stop_process)
        if self._dumped == self.count:
            source.pauseProducing()
