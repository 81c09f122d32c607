"""A syslog collector, which receives datagrams and writes a line of JSON for each.

It loses nothing: a datagram that is not an RFC 5424 message is kept as it arrived.
"""

from __future__ import annotations

import json
from typing import Any

import attrs
from twisted.internet.protocol import DatagramProtocol
from zope.interface import implementer

from sockservices import (
    IBatchReceiver,
    IDatagramFactory,
    ITruncationReceiver,
    Output,
    one_of,
    setting,
)
from syslog_collector.message import SEVERITIES, NotSyslogError, parse


@implementer(IBatchReceiver, ITruncationReceiver)
class Collector(DatagramProtocol):
    """One listener."""

    transport: Any
    noisy = False
    max_datagram_size = 8192  # more than section 6.1 requires, and fast to parse

    def __init__(self, factory: SyslogFactory) -> None:
        self._factory = factory

    def datagramReceived(self, datagram: bytes, addr: object) -> None:
        """Collect one message."""
        self.datagrams_received([(datagram, addr)])

    def datagrams_received(self, datagrams: list[tuple[bytes, Any]]) -> None:
        """Collect a batch of messages, and write them together."""
        lines = [self._factory.line(datagram) for datagram, _peer in datagrams]
        self._factory.output.write_texts(filter(None, lines), self.transport)

    def datagram_truncated(self, data: bytes, size: int, peer: object) -> None:
        """Collect the beginning of a longer message, and mark it as truncated."""
        line = self._factory.line(data, size)
        self._factory.output.write_texts(filter(None, [line]), self.transport)


@implementer(IDatagramFactory)
@attrs.define(eq=False)
class SyslogFactory:
    """The factory, with one output for all listeners."""

    least_severity: str = setting(
        default="debug",
        converter=one_of(*SEVERITIES),
        help=f"Keep messages of this severity or worse: {', '.join(SEVERITIES)}.",
    )
    to: str | None = setting(default=None, help="Append to this file instead of standard output.")
    output: Output = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.output = Output(self.to)

    def build_datagram_protocol(self) -> Collector:
        """See ``IDatagramFactory``."""
        return Collector(self)

    def line(self, datagram: bytes, cut_of: int | None = None) -> str:
        """Return the line to write for a datagram, or nothing if it is not severe enough.

        Parameters:
            datagram: the datagram; bytes that are not UTF-8 are kept, by PEP 383.
            cut_of: its original length, if it was truncated.
        """
        text = datagram.decode("utf-8", "surrogateescape")
        try:
            fields = parse(text)
        except NotSyslogError:
            fields = {"unparsed": text}
        else:
            if SEVERITIES.index(fields["severity"]) > SEVERITIES.index(self.least_severity):
                return ""
        if cut_of is not None:
            fields["cut_of"] = cut_of
        return json.dumps(fields) + "\n"
