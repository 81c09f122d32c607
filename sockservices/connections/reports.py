"""The log lines about connections and datagrams that were not served, and the totals.

A line names the peer and the reason. A flood of them is logged as a few lines and a number.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from twisted.internet.interfaces import IAddress
from twisted.logger import Logger

from sockservices.connections.ledger import REASONS, Connection, Ledger, Reason, Totals
from sockservices.log_limit import LogLimit
from sockservices.printable import peer_of_stream

_MOST = 3  # lines for each reason in a period
_PERIOD = 1.0  # seconds


class Reports:
    """Tells in the log what a ledger records.

    Parameters:
        log: the service's log.
        ledger: the ledger.
        reactor: an ``IReactorTime``.
    """

    def __init__(self, log: Logger, ledger: Ledger, reactor: Any) -> None:
        self._log = log
        self._ledger = ledger
        self._limit = LogLimit(log, reactor, _MOST, _PERIOD)
        ledger.report_to(self._refused, self._cut)

    def _refused(self, listener: str, peer: IAddress, cause: Reason, detail: str | None) -> None:
        self._tell("refused", listener, peer, cause, detail)

    def _cut(self, connection: Connection, cause: Reason) -> None:
        self._tell("closed", connection.listener, connection.peer, cause, connection.detail)

    def _tell(
        self, what: str, listener: str, peer: IAddress, cause: Reason, detail: str | None
    ) -> None:
        if self._limit.allows(cause):
            self._log.info(
                "{what} {peer} on {listener}: {cause}: {reason}",
                what=what,
                peer=peer_of_stream(peer),
                listener=listener,
                cause=cause,
                reason=detail or REASONS[cause],
            )

    def tell_totals(self) -> None:
        """Log the totals since the start."""
        totals = "; ".join(_parts(self._ledger.totals))
        self._log.info("since the start: {totals}", totals=totals or "nothing")

    def end(self) -> None:
        """Log everything that is left to be said, because the service has stopped."""
        self._limit.end_period()
        self.tell_totals()


def _parts(totals: Totals) -> Iterator[str]:
    if totals.opened:
        yield f"connections {totals.opened}"
    if totals.closed:
        yield f"ended: {_counts(totals.closed)}"
    of_datagrams = {
        "datagrams": totals.datagrams,
        "truncated": totals.truncated,
        "unsent": totals.unsent,
        "unanswered": totals.unanswered,
        "dropped by the kernel": totals.dropped_by_kernel,
    }
    datagrams = ", ".join(f"{name} {count}" for name, count in of_datagrams.items() if count)
    if datagrams:
        yield datagrams
    if totals.refused:
        yield f"refused: {_counts(totals.refused)}"
    if totals.socket_errors:
        yield f"socket errors {totals.socket_errors}"


def _counts(by_reason: Counter[str]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in sorted(by_reason.items()))
