"""Listeners that were lost while the service runs, and are opened again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import attrs
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from sockservices.host.ports import Ports
from sockservices.timer import cancel

_FIRST_DELAY = 0.1  # seconds; each further one is twice as long
_LAST_DELAY = 30.0
_HOPELESS = 5  # failed attempts in a row, if nothing else listens


@attrs.define
class _Listener:
    """What happened to one listener."""

    delay: float = _FIRST_DELAY
    is_lost: bool = False
    failures: int = 0
    since: float = 0.0  # when it was opened again
    call: IDelayedCall | None = None


class Recovery:
    """Opens lost listeners again, with growing delays.

    Parameters:
        ports: the ports of the listeners.
        descriptions: the descriptions of the listeners.
        reactor: an ``IReactorTime``.
        log: receives a line for each loss, each failed attempt and each success.
        changed: called when a listener was lost or has been opened again.
        hopeless: called with one line when nothing is left to listen on.
    """

    def __init__(
        self,
        ports: Ports,
        descriptions: Sequence[str],
        reactor: Any,
        log: Logger,
        changed: Callable[[], None],
        hopeless: Callable[[str], None],
    ) -> None:
        self._ports = ports
        self._descriptions = descriptions
        self._reactor = reactor
        self._log = log
        self._changed = changed
        self._hopeless = hopeless
        self._listeners: dict[int, _Listener] = {}
        ports.lost = self._has_lost

    @property
    def lost(self) -> list[str]:
        """The descriptions of the listeners that are lost now."""
        found = sorted(number for number, each in self._listeners.items() if each.is_lost)
        return [self._descriptions[number] for number in found]

    def _has_lost(self, number: int, reason: str) -> None:
        # Later, because a reactor that has ended closes ports too, and calls nothing any more.
        listener = self._listeners.setdefault(number, _Listener())
        listener.call = self._reactor.callLater(0, self._begin, number, listener, reason)

    def _begin(self, number: int, listener: _Listener, reason: str) -> None:
        listener.is_lost = True
        if self._reactor.seconds() - listener.since > _LAST_DELAY:
            listener.delay = _FIRST_DELAY
        self._log.error(
            "{listener} no longer listens: {reason}",
            listener=self._descriptions[number],
            reason=reason,
        )
        self._try_later(number, listener)
        self._changed()

    def _try_later(self, number: int, listener: _Listener) -> None:
        delay, listener.delay = listener.delay, min(listener.delay * 2, _LAST_DELAY)
        listener.call = self._reactor.callLater(delay, self._try, number, listener)

    def _try(self, number: int, listener: _Listener) -> None:
        self._ports.listen_again(number).addCallbacks(
            lambda _none: self._listens(number, listener),
            partial(self._failed, number, listener),
        )

    def _listens(self, number: int, listener: _Listener) -> None:
        if self._listeners.get(number) is not listener:  # stopped meanwhile
            return
        listener.is_lost = False
        listener.failures = 0
        listener.since = self._reactor.seconds()
        self._log.info("{listener} listens again", listener=self._descriptions[number])
        self._changed()

    def _failed(self, number: int, listener: _Listener, failure: Failure) -> None:
        if self._listeners.get(number) is not listener:
            return
        listener.failures += 1
        self._try_later(number, listener)
        self._log.warn("{reason}", reason=failure.getErrorMessage())
        lost = [each for each in self._listeners.values() if each.is_lost]
        has_hope = self._ports.open or any(each.failures < _HOPELESS for each in lost)
        if listener.failures == _HOPELESS and not has_hope:
            self._hopeless(f"nothing is left to listen on: {failure.getErrorMessage()}")

    def stop(self) -> None:
        """Open no listener again."""
        listeners, self._listeners = self._listeners, {}
        for listener in listeners.values():
            cancel(listener.call)
