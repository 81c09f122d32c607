from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from sockservices.connections.ending import end_in_order
from sockservices.connections.ledger import Ledger
from tests.fakes import opened


class Producer:
    def __init__(self, error: Exception | None = None) -> None:
        self.stopped = 0
        self._error = error

    def stopProducing(self) -> None:
        self.stopped += 1
        if self._error is not None:
            raise self._error


class Inside:
    """A service's protocol in a layer that has a transport of its own."""

    def __init__(self, transport: Any) -> None:
        self.transport = transport


def test_the_transport_of_the_protocol_is_closed() -> None:
    below, above = StringTransport(), StringTransport()
    end_in_order(opened(Ledger("echo"), below, Inside(above)), Clock())
    assert (below.disconnecting, above.disconnecting) == (False, True)


def test_one_that_the_service_has_not_got_is_closed() -> None:
    transport = StringTransport()
    end_in_order(Ledger("echo").enter("tcp:7", transport), Clock())
    assert transport.disconnecting


@pytest.mark.parametrize("error", [None, RuntimeError("broken")])
def test_a_producer_is_stopped_and_keeps_nothing_open(error: Exception | None) -> None:
    transport, producer = StringTransport(), Producer(error)
    transport.registerProducer(producer, True)
    connection = opened(Ledger("echo"), transport, object())
    if error is None:
        end_in_order(connection, Clock())
    else:
        with pytest.raises(RuntimeError, match="broken"):
            end_in_order(connection, Clock())
    assert (transport.producer, transport.disconnecting, producer.stopped) == (None, True, 1)
