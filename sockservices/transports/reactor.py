"""Twisted's epoll(7) reactor with eager transports, which it watches itself.

Its timers use ``time.monotonic``.
"""

from __future__ import annotations

from twisted.internet import main

from sockservices.transports.clock import keep_steady
from sockservices.transports.epoll import EPollReactor
from sockservices.transports.streams import EagerMethods
from sockservices.transports.watching import Watching


class EagerReactor(EagerMethods, Watching, EPollReactor):
    """The reactor that ``twistd --reactor=eager`` installs."""

    def __init__(self) -> None:
        Watching.__init__(self)
        # The number of the current turn: data written in one turn may be sent together.
        self.turn = 0
        EPollReactor.__init__(self)
        keep_steady(self)

    def doPoll(self, timeout: float | None) -> None:
        """Wait for events, at most ``timeout`` seconds (``None``: forever), and dispatch them."""
        self.turn += 1
        if self.prepare():
            timeout = 0
        self.serve(-1 if timeout is None else timeout)

    doIteration = doPoll


def install() -> None:
    """Install ``EagerReactor`` as the reactor of this process.

    Raises ``ReactorAlreadyInstalledError`` if another is installed.
    """
    main.installReactor(EagerReactor())
