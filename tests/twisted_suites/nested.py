"""Twisted's epoll reactor with eager streams, whose connections are in a nest."""

from __future__ import annotations

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.main import installReactor

from sockservices.transports import EagerMethods, keep_steady
from sockservices.transports.nest import nest_of


class NestedReactor(EagerMethods, EPollReactor):
    """What ``EagerStreams`` is around a reactor, as a reactor, which the suites need."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        keep_steady(self)
        self.forget = nest_of(self).forget

    @property
    def turn(self) -> int:
        """The number of the current turn."""
        return nest_of(self).turn


def install() -> None:
    """Install it, as a module of a reactor does."""
    installReactor(NestedReactor())
