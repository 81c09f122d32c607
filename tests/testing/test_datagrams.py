"""What a contract for datagrams asks a service, and with what."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import strategies as st
from twisted.internet.interfaces import IUDPTransport
from twisted.internet.protocol import DatagramProtocol, Factory
from zope.interface import implementer
from zope.interface.verify import verifyObject

from sockservices.service import IBatchReceiver, IDatagramFactory, ITruncationReceiver
from sockservices.testing import ContractError, DatagramServiceContract, rules

RULES = [name for name in dir(DatagramServiceContract) if name[:5] == "test_"]
LARGEST = 65507


class Told(DatagramProtocol):
    """Tells its class what it was told."""

    noisy = False
    transport: Any
    received: list[tuple[bytes, Any]]
    happened: list[str]

    def startProtocol(self) -> None:
        verifyObject(IUDPTransport, self.transport)
        self.happened.append("start")

    def stopProtocol(self) -> None:
        self.happened.append("stop")

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self.received.append((datagram, addr))


@implementer(IBatchReceiver, ITruncationReceiver)
class ToldMore(Told):
    max_datagram_size = 100
    batches: list[list[tuple[bytes, Any]]]
    truncated: list[tuple[bytes, int, Any]]

    def datagrams_received(self, datagrams: list[tuple[bytes, Any]]) -> None:
        self.batches.append(datagrams)

    def datagram_truncated(self, data: bytes, size: int, peer: Any) -> None:
        self.truncated.append((data, size, peer))


def _told(test: str, kind: type[Told] = Told, **more: Any) -> Any:
    """Hold a service to a rule; returns its class, which was told things."""
    memory = {name: [] for name in ("received", "happened", "batches", "truncated")}  # type: ignore[var-annotated]
    protocol = type(kind.__name__, (kind,), memory)
    contract = type("Contract", (DatagramServiceContract,), {"factory": protocol, **more})
    getattr(contract(), test)()
    return protocol


def test_it_is_told_any_datagrams_of_several_peers() -> None:
    told = _told("test_no_datagram_raises_an_exception").received
    sizes = {len(data) for data, _peer in told}
    assert {0, LARGEST} <= sizes
    assert len({peer for _data, peer in told}) > 2
    assert len({data for data, _peer in told}) < len(told)  # some come again


def test_what_means_something_to_the_service_is_among_them() -> None:
    told = _told(
        "test_no_datagram_raises_an_exception",
        examples=[b"an example"],
        inputs=st.just(b"one of a strategy"),
    )
    assert {b"an example", b"one of a strategy"} <= {data for data, _peer in told.received}


def test_one_that_takes_them_together_gets_them_together() -> None:
    told = _told("test_no_datagram_raises_an_exception", ToldMore)
    assert max(map(len, told.batches)) > 1
    assert told.received


def test_what_is_cut_is_told_as_such_or_as_any_other() -> None:
    told = _told("test_a_truncated_datagram_raises_no_exception", ToldMore)
    assert told.truncated
    assert all(size > len(data) for data, size, _peer in told.truncated)
    assert _told("test_a_truncated_datagram_raises_no_exception").received


def test_nobody_is_among_the_peers() -> None:
    told = _told("test_an_unknown_peer_raises_no_exception", ToldMore)
    assert None in {peer for _data, peer in told.received}
    assert {peer for batch in told.batches for _data, peer in batch} == {None}
    assert {peer for _data, _size, peer in told.truncated} == {None}


@pytest.mark.parametrize("test", [each for each in RULES if "event_loop" not in each])
def test_what_is_started_is_stopped(test: str) -> None:
    happened = _told(test).happened
    assert happened.count("start") >= happened.count("stop") > 0
    assert happened[-1] == "stop"


def test_a_factory_may_build_the_protocols() -> None:
    @implementer(IDatagramFactory)
    class Builder:
        built = 0

        def build_datagram_protocol(self) -> Told:
            Builder.built += 1
            built: type[Told] = type("Built", (Told,), {"received": [], "happened": []})
            return built()

    class Contract(DatagramServiceContract):
        factory = Builder

    Contract().test_no_datagram_raises_an_exception()
    assert Builder.built > 1


@pytest.mark.parametrize("made", [Factory, lambda: None, lambda: 7])
def test_what_is_no_datagram_service_breaks_the_rule_on_building(made: Any) -> None:
    contract = type("Contract", (DatagramServiceContract,), {"factory": staticmethod(made)})
    with pytest.raises(ContractError) as caught:
        contract().test_no_datagram_raises_an_exception()
    assert caught.value.rule == rules.BUILDING
