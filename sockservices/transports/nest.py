"""The eager connections of a reactor that is not made for them.

They are watched by an epoll(7) object of their own, which is one reader of the reactor. So the loop
stays the reactor's, whatever it is, and a connection costs what it costs on the eager reactor.

Private names of Twisted used here, checked with 24.7 to 26.10: ``_DisconnectSelectableMixin``,
``_PollLikeMixin`` and what they use, ``_internalReaders``. The methods of ``IReactorFDSet`` and
``doIteration`` are replaced in the reactor, so that it hands eager connections on, and is asked to
wait only after the changes of a turn are made.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from twisted.internet.base import ReactorBase
from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.posixbase import _DisconnectSelectableMixin, _PollLikeMixin
from twisted.python.failure import Failure
from zope.interface import implementer

from sockservices.transports.epoll import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, epoll
from sockservices.transports.watching import Watching

_REPLACED = (
    *("addReader", "addWriter", "removeReader", "removeWriter"),
    *("getReaders", "getWriters", "removeAll", "doIteration"),
)


def nest_of(reactor: Any) -> Nest:
    """Return the ``Nest`` of a reactor; create it if there is none."""
    found: Nest | None = vars(reactor).get("_sockservices_nest")
    if found is None:
        # Some reactors take their turns elsewhere: in the loop of asyncio, or of a GUI toolkit.
        knows_turns = all(
            getattr(type(reactor), name) is getattr(ReactorBase, name)
            for name in ("iterate", "mainLoop", "run")
        )
        kind = Nest if knows_turns else TurnlessNest
        found = reactor._sockservices_nest = kind(reactor)
    return found


class _Outside(_PollLikeMixin, _DisconnectSelectableMixin):
    """What is not an eager connection, which the reactor watches as ever."""

    def __init__(self, reactor: Any) -> None:
        self._outside = SimpleNamespace(**{name: getattr(reactor, name) for name in _REPLACED})

    def addReader(self, reader: Any) -> None:
        """See ``IReactorFDSet.addReader``."""
        self._outside.addReader(reader)

    def addWriter(self, writer: Any) -> None:
        """See ``IReactorFDSet.addWriter``."""
        self._outside.addWriter(writer)

    def removeReader(self, reader: Any) -> None:
        """See ``IReactorFDSet.removeReader``."""
        self._outside.removeReader(reader)

    def removeWriter(self, writer: Any) -> None:
        """See ``IReactorFDSet.removeWriter``."""
        self._outside.removeWriter(writer)


@implementer(IReadDescriptor)
class Nest(Watching, _Outside):
    """The eager connections of a reactor.

    Parameters:
        reactor: an ``IReactorFDSet``.
    """

    _POLL_DISCONNECTED = EPOLLHUP | EPOLLERR
    _POLL_IN = EPOLLIN
    _POLL_OUT = EPOLLOUT

    def __init__(self, reactor: Any) -> None:
        Watching.__init__(self)
        _Outside.__init__(self, reactor)
        self._reactor = reactor
        self._poller = epoll()
        self.fileno = self._poller.fileno  # it is readable when something is ready
        self._reads = set()
        self._writes = set()
        self._selectables = {}
        self._turn = 0
        reactor.addReader(self)
        reactor._internalReaders.add(self)  # removeAll() leaves it there
        for name in _REPLACED:
            setattr(reactor, name, getattr(self, name))

    @property
    def turn(self) -> int:
        """The number of the current turn."""
        return self._turn

    def doIteration(self, delay: float | None) -> None:
        """Take a turn of the reactor, which waits at most ``delay`` seconds (``None``: forever)."""
        self._turn += 1
        self._outside.doIteration(0 if self.prepare() else delay)

    def getReaders(self) -> list[Any]:
        """See ``IReactorFDSet.getReaders``."""
        others = [each for each in self._outside.getReaders() if each is not self]
        return [*others, *(self._selectables[fd] for fd in self._reads)]

    def getWriters(self) -> list[Any]:
        """See ``IReactorFDSet.getWriters``."""
        return [*self._outside.getWriters(), *(self._selectables[fd] for fd in self._writes)]

    def removeAll(self) -> list[Any]:
        """See ``IReactorFDSet.removeAll``."""
        removed = list(self._selectables.values())
        for each in removed:
            self.forget(each)
        return [*self._outside.removeAll(), *removed]

    def doRead(self) -> None:
        """Serve what is ready. See ``IReadDescriptor.doRead``."""
        self.serve(0)

    def connectionLost(self, reason: Failure | None) -> None:
        """Go on, because this is about no connection; without a reason, the reactor has ended."""
        if reason is None:
            self._poller.close()
            return
        self._outside.addReader(self)
        if isinstance(reason.value, KeyboardInterrupt):  # which must leave the reactor
            raise reason.value

    def logPrefix(self) -> str:
        """See ``ILoggingContext.logPrefix``."""
        return "-"


class TurnlessNest(Nest):
    """The eager connections of a reactor whose turns are unknown: changes are made in calls."""

    _will_prepare = False

    @property
    def turn(self) -> int:
        """A new number each time."""
        self._turn += 1
        return self._turn

    def addReader(self, reader: Any) -> None:
        """See ``IReactorFDSet.addReader``."""
        super().addReader(reader)
        self._prepare_soon()

    def addWriter(self, writer: Any) -> None:
        """See ``IReactorFDSet.addWriter``."""
        super().addWriter(writer)
        self._prepare_soon()

    def removeReader(self, reader: Any) -> None:
        """See ``IReactorFDSet.removeReader``."""
        super().removeReader(reader)
        self._prepare_soon()

    def removeWriter(self, writer: Any) -> None:
        """See ``IReactorFDSet.removeWriter``."""
        super().removeWriter(writer)
        self._prepare_soon()

    def _prepare_soon(self) -> None:
        if (self._changed or self._untried) and not self._will_prepare:
            self._will_prepare = True
            self._reactor.callLater(0, self._prepare_now)

    def _prepare_now(self) -> None:
        self._will_prepare = False
        try:
            self.prepare()
        finally:
            self._prepare_soon()
