"""@@title: answers each datagram with the same in capitals."""

from __future__ import annotations

from typing import Any

import attrs
from sockservices import IDatagramFactory, option
from twisted.internet.protocol import DatagramProtocol
from zope.interface import implementer


class @@{title}Protocol(DatagramProtocol):
    """One listener."""

    transport: Any
    noisy = False

    def __init__(self, suffix: bytes) -> None:
        self._suffix = suffix

    def datagramReceived(self, datagram: bytes, peer: Any) -> None:
        if peer:  # a Unix peer may have no name to answer to
            answer = datagram.upper() + self._suffix
            self.transport.write(answer[:65507], peer)


@implementer(IDatagramFactory)
@attrs.define(eq=False, slots=False)
class @@{title}Factory:
    """Builds a protocol for each listener. Its fields are the options of the command."""

    suffix: str = option(default="", help="What to add to each answer.")

    def build_datagram_protocol(self) -> @@{title}Protocol:
        return @@{title}Protocol(self.suffix.encode())
