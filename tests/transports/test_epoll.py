"""A system without epoll(7)."""

from __future__ import annotations

import sys

from tests.transports.fresh_process import python

CODE = """
import select
del select.epoll, select.EPOLLIN
from twisted.internet import reactor
from sockservices.transports import EagerStreams, with_streams
print(type(with_streams(reactor, eager=True)).__name__)
for use in (lambda: EagerStreams(reactor), lambda: __import__("sockservices.transports.reactor")):
    try:
        use()
    except ImportError as error:
        print(error)
"""


def test_without_epoll_streams_are_twisteds_own_and_who_asks_for_eager_ones_is_told() -> None:
    result = python(CODE)
    reason = f"eager transports need epoll(7), which {sys.platform} does not have"
    assert (result.stderr, result.stdout.splitlines()) == ("", ["StockStreams", reason, reason])
