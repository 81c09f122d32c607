"""The process's limit of descriptors: raised at the start, and lived with when it is reached."""

from __future__ import annotations

import resource
from typing import Any

from twisted.logger import Logger

from sockservices.accepting import Gate
from sockservices.calls import cancel
from sockservices.eager import AcceptingPort
from sockservices.ledger import Connection, Ledger
from sockservices.printable import system_reason

_REASON = "descriptors"
_SILENCE = 60.0  # seconds between two lines in the log
_RETRY = 0.5  # seconds: others than our connections have descriptors, too


def raise_limit(reactor: Any) -> None:
    """Raise the soft limit of descriptors to the hard one: getrlimit(2).

    Not for a reactor that stands on select(2), which knows no descriptor above 1023.
    """
    if type(reactor).__name__ == "SelectReactor":
        return
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Exhaustion:
    """Lets newcomers wait while there is no descriptor for them.

    Parameters:
        gate: of the listeners.
        ledger: tells when a connection has ended, and so left its descriptor.
        reactor: an ``IReactorTime``.
        log: is told once a minute at the most.
    """

    def __init__(self, gate: Gate, ledger: Ledger, reactor: Any, log: Logger) -> None:
        self._gate = gate
        self._ledger = ledger
        self._reactor = reactor
        self._log = log
        self._retry: Any = None
        self._silent_until = 0.0
        ledger.watch(self._changed)

    def watch(self, port: Any) -> None:
        """Look after a port; one of a foreign kind does what it does."""
        if isinstance(port, AcceptingPort):
            port.on_exhausted = self._exhausted

    def _exhausted(self, error: OSError) -> None:
        now = self._reactor.seconds()
        if now >= self._silent_until:
            self._silent_until = now + _SILENCE
            self._log.warn(
                "newcomers wait: {reason}, with {live} connections live",
                reason=system_reason(error),
                live=self._ledger.live,
            )
        self._gate.close(_REASON)
        self._retry = self._reactor.callLater(_RETRY, self._try_again)

    def _try_again(self) -> None:
        retry, self._retry = self._retry, None
        cancel(retry)
        self._gate.open(_REASON)

    def _changed(self, _connection: Connection) -> None:
        if self._retry is not None:
            self._try_again()

    def stop(self) -> None:
        """Try no more."""
        self._try_again()
