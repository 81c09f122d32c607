"""@@title: answers each datagram with its text in capitals."""

from __future__ import annotations

from typing import Any

import attrs
from sockservices import AnsweringProtocol, IDatagramFactory, setting
from zope.interface import implementer


class @@{title}Protocol(AnsweringProtocol):
    """One listener."""

    noisy = False

    def __init__(self, suffix: bytes) -> None:
        self._suffix = suffix

    def datagramReceived(self, datagram: bytes, peer: Any) -> None:
        answer = datagram.upper() + self._suffix
        self.answer(answer[:65507], peer)


@implementer(IDatagramFactory)
@attrs.define(eq=False, slots=False)
class @@{title}Factory:
    """The factory, which builds a protocol for each listener. Its fields are command options."""

    suffix: str = setting(default="", help="Append this to each answer.")

    def build_datagram_protocol(self) -> @@{title}Protocol:
        return @@{title}Protocol(self.suffix.encode())
