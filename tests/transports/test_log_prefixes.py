from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.protocol import Factory, Protocol
from twisted.python import log

from sockservices.transports import EagerReactor
from sockservices.transports.streams import EagerStreams, StockStreams
from tests.fakes import logged
from tests.transports.reactors import started, turn_until

EVIL = "a\x1b[31m\nforged\udcff"


class Logging(Protocol):
    def dataReceived(self, data: bytes) -> None:
        log.msg("said")
        assert self.transport is not None
        self.transport.loseConnection()


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        (EVIL, r"Logging,0,a\x1b[31m\nforged\xff"),
        ("plain\\name", r"Logging,0,plain\name"),
        (f"\0{EVIL}", r"Logging,0,b'\x00a\x1b[31m\nforged\xff'"),
        ("", "Logging,0,"),
    ],
    ids=["path", "plain path", "abstract", "none"],
)
@pytest.mark.parametrize("kind", ["eager", "eager reactor", "stock"])
def test_a_peer_does_not_choose_what_is_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, name: str, prefix: str
) -> None:
    monkeypatch.chdir(tmp_path)
    made: Any = EagerReactor if kind == "eager reactor" else EPollReactor
    with started(made) as reactor, socket.socket(socket.AF_UNIX) as peer, logged() as events:
        wrap: Any = {"eager": EagerStreams, "stock": StockStreams}.get(kind)
        streams: Any = reactor if wrap is None else wrap(reactor)
        factory = Factory.forProtocol(Logging)
        factory.noisy = False
        port = streams.listenUNIX("listening", factory)
        if name:
            peer.bind(name.encode("utf-8", "surrogateescape"))
        peer.connect("listening")
        peer.sendall(b"x")
        turn_until(reactor, lambda: any("said" in str(each) for each in events))
        port.stopListening()
    [said] = [each for each in events if "said" in str(each.get("log_text", each))]
    assert ascii(said["log_system"]) == ascii(prefix)  # a report could not show it as it is
