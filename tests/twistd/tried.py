"""Services to try, and their options."""

from __future__ import annotations

import dataclasses
from typing import Any

import attrs
from twisted.internet.protocol import DatagramProtocol, Factory
from zope.interface import implementer

from sockservices.converters import whole_number
from sockservices.service import IDatagramFactory, Served
from sockservices.settings import setting
from sockservices.twistd import run
from sockservices.twistd.options import HostOptions, options_for


def make_service(options: Any) -> Any:
    return run.make_service(options)


@attrs.define(eq=False, slots=False)
class Attrs(Factory):
    word: str = setting(default="a\tb", help="A word to say.")
    max_size: int = setting(default=8, converter=whole_number(least=1), help="In bytes.")
    loud: bool = setting(default=False, help="Say it loudly.")


@dataclasses.dataclass(eq=False)
class Data(Factory):
    word: str
    times: int = 2
    loud: bool = False
    parts: list[str] = dataclasses.field(default_factory=list)


class Plain(Factory):
    def __init__(self, word: str = "hi", *, sure: bool = True) -> None:
        self.word = word
        self.sure = sure


class Datagrams(DatagramProtocol):
    def __init__(self, word: str = "hi", mark: str = "!") -> None:
        self.word = word
        self.mark = mark


@implementer(IDatagramFactory)
class DatagramFactory:
    def __init__(self, mark: str = "!") -> None:
        self.mark = mark

    def build_datagram_protocol(self) -> Datagrams:
        return Datagrams(mark=self.mark)


def stream_options(factory: Any) -> HostOptions:
    return options_for(Served("tried", factory, None, "stream"))


def parsed_options(factory: Any, *arguments: str) -> HostOptions:
    options = stream_options(factory)
    options.parseOptions(["--port=0", *arguments])
    return options
