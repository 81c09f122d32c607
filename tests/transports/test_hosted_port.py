from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred

from sockservices.transports import AcceptingPort
from sockservices.transports.datagram_port import DatagramPort
from sockservices.transports.hosted_port import ForeignPort, HostedPort
from tests.fakes import result_of

HERE = IPv4Address("TCP", "127.0.0.1", 7)


class Foreign:
    """A port of somebody else's; remembers what it was told."""

    def __init__(self, result: Any = None, *, pauses: bool = True) -> None:
        self.told: list[str] = []
        self._result = result
        if pauses:
            self.startReading = lambda: self.told.append("start")
            self.stopReading = lambda: self.told.append("stop")

    def getHost(self) -> IPv4Address:
        return HERE

    def stopListening(self) -> Any:
        self.told.append("close")
        if isinstance(self._result, Exception):
            raise self._result
        return self._result


def test_our_ports_can_be_limited_and_keep_their_address() -> None:
    for kind in (AcceptingPort, DatagramPort):
        assert issubclass(kind, HostedPort)
        assert kind.can_limit
        assert kind.keeps_address


def test_a_foreign_port_tells_where_it_listens_and_can_do_less() -> None:
    port = ForeignPort(Foreign(), "stream")
    assert (port.kind, port.description) == ("stream", "tcp:127.0.0.1:7")
    assert {port.can_limit, port.keeps_address, port.is_finishing} == {False}


def test_a_foreign_port_is_paused_if_it_can_be() -> None:
    for pauses, told in ((True, ["stop", "start"]), (False, [])):
        foreign = Foreign(pauses=pauses)
        port = ForeignPort(foreign, "stream")
        port.stopReading()
        port.startReading()
        assert foreign.told == told


def test_one_that_could_not_go_on_is_not_paused() -> None:
    foreign = SimpleNamespace(getHost=lambda: HERE, stopReading=lambda: pytest.fail("paused"))
    ForeignPort(foreign, "stream").stopReading()


def test_a_foreign_port_closes_once_and_tells_all_who_ask() -> None:
    foreign = Foreign()
    port = ForeignPort(foreign, "datagram")
    assert [result_of(each) for each in (port.stopListening(), port.finish(60))] == [[None]] * 2
    assert foreign.told == ["close"]


def test_who_waits_for_a_foreign_port_is_told_when_it_has_closed() -> None:
    closing: Deferred[None] = Deferred()
    waiting = ForeignPort(Foreign(closing), "stream").finish(60)
    assert not waiting.called
    closing.callback(None)
    assert result_of(waiting) == [None]


def test_a_foreign_port_that_cannot_close_is_told() -> None:
    waiting = ForeignPort(Foreign(OSError("stuck")), "stream").stopListening()
    with pytest.raises(OSError, match="stuck"):
        result_of(waiting)
