"""Collects syslog messages from datagrams, a line of JSON each.

A collector loses nothing: what is no message of RFC 5424 is kept as it came.
"""

from __future__ import annotations

import json
from typing import Any

import attrs
from twisted.internet.protocol import DatagramProtocol
from zope.interface import implementer

from sockservices import IBatchReceiver, IDatagramFactory, Output, one_of, option
from syslog_collector.message import SEVERITIES, NotSyslogError, parse


@implementer(IBatchReceiver)
class Collector(DatagramProtocol):
    """One listener."""

    transport: Any
    noisy = False

    def __init__(self, factory: SyslogFactory) -> None:
        self._factory = factory

    def datagramReceived(self, datagram: bytes, addr: object) -> None:
        """Collect one message."""
        self.datagrams_received([(datagram, addr)])

    def datagrams_received(self, datagrams: list[tuple[bytes, Any]]) -> None:
        """Collect what had arrived, and write it at once."""
        lines = [self._factory.line(datagram) for datagram, _peer in datagrams]
        self._factory.output.write_texts(filter(None, lines), self.transport)


@implementer(IDatagramFactory)
@attrs.define(eq=False)
class SyslogFactory:
    """One output for all listeners."""

    least_severity: str = option(
        default="debug",
        converter=one_of(*SEVERITIES),
        help=f"Keep these and graver ones: {', '.join(SEVERITIES)}.",
    )
    to: str | None = option(default=None, help="Append to this file instead of standard output.")
    output: Output = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.output = Output(self.to)

    def build_datagram_protocol(self) -> Collector:
        """See ``IDatagramFactory``."""
        return Collector(self)

    def line(self, datagram: bytes) -> str:
        """Return what is printed for a datagram: nothing, for one that is not grave enough."""
        text = datagram.decode("utf-8", "backslashreplace")
        try:
            fields = parse(text)
        except NotSyslogError:
            fields = {"unparsed": text}
        else:
            if SEVERITIES.index(fields["severity"]) > SEVERITIES.index(self.least_severity):
                return ""
        return json.dumps(fields) + "\n"
