"""What can be served: factories and protocols of each kind."""

from __future__ import annotations

from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from zope.interface import implementer

from sockservices.service import IDatagramFactory


class Streams(Factory):
    def __init__(self, mark: str = "!", how_often: int = 1) -> None:
        self.mark = mark * how_often


class Bare(Protocol):
    pass


class Datagrams(DatagramProtocol):
    def __init__(self, mark: str = "!") -> None:
        self.mark = mark


@implementer(IDatagramFactory)
class DatagramFactory:
    def build_datagram_protocol(self) -> Datagrams:
        return Datagrams()


built = Streams("built")
built_datagrams = Datagrams("built")
built_datagram_factory = DatagramFactory()
