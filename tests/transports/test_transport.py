"""What is logged carries the prefix of its connection; what a reactor can rely on."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThreadPool
from twisted.python import context, log

from sockservices.transports import EagerReactor, EagerStreams
from tests.transports.pairs import Pair
from tests.transports.reactors import started, turn_until


@pytest.fixture
def logged() -> Any:
    events: list[dict[str, Any]] = []
    log.addObserver(events.append)
    yield events
    log.removeObserver(events.append)


class Logging(Protocol):
    """Logs what it receives, at once or in a thread, or raises."""

    reactor: Any
    how = ""

    def dataReceived(self, data: bytes) -> None:
        if self.how == "raises":
            raise ValueError(data)
        if self.how == "thread":
            deferToThreadPool(self.reactor, self.reactor.getThreadPool(), log.msg, data)
        else:
            log.msg(data)


@pytest.mark.parametrize("how", ["at once", "thread", "raises"])
def test_each_connection_logs_with_its_own_prefix(logged: Any, how: str) -> None:
    with started(EagerReactor) as reactor:
        factory = Factory.forProtocol(type("Logging", (Logging,), {"reactor": reactor, "how": how}))
        port: Any = reactor.listenTCP(0, factory, interface="127.0.0.1")
        peers = [socket.create_connection(("127.0.0.1", port.getHost().port)) for _ in range(3)]
        for number, peer in enumerate(peers):
            peer.send(b"%d" % number)

        def said() -> dict[str, str]:
            """From what was received to the prefix that it was logged with."""
            found = {}
            for event in logged:
                failure = event.get("failure")
                if failure is not None and failure.check(ValueError):
                    found[failure.value.args[0].decode()] = event["system"]
                elif event["message"] and isinstance(event["message"][0], bytes):
                    found[event["message"][0].decode()] = event["system"]
            return found

        turn_until(reactor, lambda: len(said()) == 3)
        for peer in peers:
            peer.close()
        if how == "thread":
            reactor.getThreadPool().stop()
    assert said() == {str(number): f"Logging,{number},127.0.0.1" for number in range(3)}


def test_a_call_later_has_no_prefix(logged: Any) -> None:
    class Putting(Protocol):
        def dataReceived(self, data: bytes) -> None:
            reactor.callLater(0, log.msg, "put off")

    with started(EagerReactor) as reactor:
        port: Any = reactor.listenTCP(0, Factory.forProtocol(Putting), interface="127.0.0.1")
        with socket.create_connection(("127.0.0.1", port.getHost().port)) as peer:
            peer.send(b"x")
            turn_until(reactor, lambda: any(e["message"] == ("put off",) for e in logged))
    assert [e["system"] for e in logged if e["message"] == ("put off",)] == ["-"]


def test_a_connection_has_a_log_context_and_no_other() -> None:
    with started(EPollReactor) as reactor, Pair(reactor, EagerStreams) as pair:
        around = context.defaultContextDict[log.ILogContext]
        own = {**around, "system": "Remembering,0,127.0.0.1"}
        assert pair.transport[log.ILogContext] == own
        with pytest.raises(KeyError):
            pair.transport["anything"]


@pytest.mark.parametrize("unix", [False, True])
def test_one_that_the_kernel_refuses_is_blocked_until_its_peer_reads(
    unix: bool, tmp_path: Path
) -> None:
    with (
        started(EPollReactor) as reactor,
        Pair(reactor, EagerStreams, tmp_path if unix else None) as pair,
    ):
        assert not pair.transport.blocked
        pair.transport.write(bytes(1 << 24))
        pair.until(lambda: pair.transport.blocked)
        pair.transport.loseConnection()
        pair.read_all()
        assert not pair.transport.blocked


@pytest.mark.parametrize("unix", [False, True])
def test_one_that_is_closed_is_watched_no_more(unix: bool, tmp_path: Path) -> None:
    with (
        started(EPollReactor) as reactor,
        Pair(reactor, EagerStreams, tmp_path if unix else None) as pair,
    ):
        assert pair.transport in reactor.getReaders()
        pair.transport.write(bytes(1 << 24))
        pair.until(lambda: pair.transport in reactor.getWriters())
        pair.peer.close()
        pair.until(lambda: pair.protocol.reasons)
        assert pair.transport not in reactor.getReaders()
        assert pair.transport not in reactor.getWriters()
