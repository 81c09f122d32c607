"""Close connections that are idle, last too long or are too slow to open."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from time import monotonic
from typing import Any

import attrs
from twisted.internet.interfaces import IAddress
from twisted.logger import Logger

from sockservices.connections.activity import held_up, is_idle
from sockservices.connections.ending import end_in_order
from sockservices.connections.ledger import Connection, Reason
from sockservices.connections.parts import Context, Part, RunningPart
from sockservices.converters import some_seconds, whole_number
from sockservices.settings import setting
from sockservices.timer import Timer, cancel

_log = Logger(namespace="sockservices")
_MOST = 1.0  # seconds between two checks
_LEAST = 0.01
_PARTS = 10  # checks per shortest timeout: a connection is closed at most a fifth too late
_TO_DELIVER = 2.0  # seconds that written data has to be delivered before a connection is reset


@attrs.frozen
class Timeouts(Part):
    """The time limits of connections."""

    heading = "Timeouts"

    idle_timeout: float | None = setting(
        default=None,
        converter=some_seconds,
        unit="seconds",
        listener="stream",
        help="Close a connection whose peer has neither sent nor taken anything for this long.",
    )
    max_time: float | None = setting(
        default=None,
        converter=some_seconds,
        unit="seconds",
        listener="stream",
        help="Close a connection that has been open for this long.",
    )
    handshake_timeout: float = setting(
        default=5.0,
        converter=some_seconds,
        unit="seconds",
        help="Close a connection whose TLS handshake or PROXY header takes longer than this.",
        kind="stream",
    )
    tcp_keepalive: int | None = setting(
        default=None,
        converter=whole_number(1, 32767),  # TCP_KEEPIDLE: tcp(7)
        unit="seconds",
        listener="TCP",
        help="Send a TCP keepalive probe after this many seconds without traffic. When "
        "--tcp-keepalive-probes of them are not answered, the connection is lost.",
    )
    tcp_keepalive_interval: int | None = setting(
        default=None,
        converter=whole_number(1, 32767),  # TCP_KEEPINTVL
        unit="seconds",
        listener="TCP",
        needs="tcp_keepalive",
        help="Repeat a probe that is not answered after this many seconds, instead of "
        "--tcp-keepalive.",
    )
    tcp_keepalive_probes: int = setting(
        default=3,
        converter=whole_number(1, 127),  # TCP_KEEPCNT
        unit="count",
        listener="TCP",
        needs="tcp_keepalive",
        help="Allow this many unanswered probes.",
    )

    def begin(self, context: Context) -> RunningTimeouts:
        """See ``Part.begin``."""
        return RunningTimeouts(self, context)


class RunningTimeouts(RunningPart[Timeouts]):
    """A timer that enforces the timeouts of a service.

    It checks all connections at intervals, so that receiving data costs nothing extra.
    """

    def __init__(self, settings: Timeouts, context: Context) -> None:
        self._timer = Timer(context.reactor, self._look)
        self._is_running = False
        super().__init__(settings, context)

    def apply(self, settings: Timeouts, prepared: object) -> None:
        """See ``RunningPart.apply``."""
        before = getattr(self, "settings", settings)
        self.settings = settings
        self.waiting = self._wait
        self.opened = self._opened if settings.tcp_keepalive is not None else None
        if _probing(settings) != _probing(before):
            for connection in self.context.ledger:
                _keep_alive(connection, settings)
        times = [each for each in (settings.idle_timeout, settings.max_time) if each is not None]
        self._interval = max(_LEAST, min(_MOST, min(times) / _PARTS)) if times else None
        self._look_later()

    def start(self) -> None:
        """Start checking connections."""
        self._is_running = True
        self._look_later()

    def stop(self) -> None:
        """Stop checking connections."""
        self._is_running = False
        self._look_later()

    def _look_later(self) -> None:
        if self._is_running and self._interval is not None:
            self._due = monotonic() + self._interval
            self._timer.start(self._interval)
        else:
            self._timer.cancel()

    def _look(self) -> None:
        now = monotonic()
        paused = held_up(now - self._due)
        for connection in self.context.ledger:
            if connection.cut is None:
                reason = self._judge(connection, now, paused)
                if reason is not None:
                    self._end(connection, reason)
        self._look_later()

    def _judge(self, connection: Connection, now: float, paused: float) -> Reason | None:
        idle, most = self.settings.idle_timeout, self.settings.max_time
        if idle is not None and is_idle(connection, now, idle, paused):
            return "idle-timeout"
        if most is not None and now - connection.opened >= most:
            return "max-time"
        return None

    def _end(self, connection: Connection, reason: Reason) -> None:
        """End a connection in order, and reset it if its peer does not take the rest."""
        connection.cut = reason
        cancel(connection.deadline)
        reactor = self.context.reactor
        connection.deadline = reactor.callLater(_TO_DELIVER, connection.end, reason)
        try:
            end_in_order(connection, reactor)
        except Exception:  # raised by the service or a foreign transport; keep timing the others
            _log.failure("connection {id} could not be closed", id=connection.id)

    def _opened(self, connection: Connection, _peer: IAddress) -> None:
        _keep_alive(connection, self.settings)

    def _wait(
        self, connection: Connection, is_done: Callable[[], bool], parts: int = _PARTS
    ) -> None:
        # In small parts, so that a pause of the process takes one of them at most.
        reactor = self.context.reactor
        part = self.settings.handshake_timeout / _PARTS
        connection.deadline = reactor.callLater(
            part, self._waited, connection, is_done, parts, reactor.seconds() + part
        )

    def _waited(
        self, connection: Connection, is_done: Callable[[], bool], parts: int, due: float
    ) -> None:
        if is_done():
            return
        is_held_up = held_up(self.context.reactor.seconds() - due)
        if parts > 1 or (parts == 1 and is_held_up):  # then what has come is read first
            self._wait(connection, is_done, parts - 1)
        else:
            self._end(connection, "handshake-timeout")


def _probing(settings: Timeouts) -> tuple[int, int, int] | None:
    """Return after how many seconds keepalive probes begin and are repeated, and how many."""
    first = settings.tcp_keepalive
    if first is None:
        return None
    return first, settings.tcp_keepalive_interval or first, settings.tcp_keepalive_probes


def _keep_alive(connection: Connection, settings: Timeouts) -> None:
    """Have the kernel probe a silent peer (tcp(7)), or not any more."""
    handle: Any = getattr(connection.transport, "getHandle", lambda: None)()
    if getattr(handle, "family", None) not in (socket.AF_INET, socket.AF_INET6):
        return
    probing = _probing(settings)
    options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, int(probing is not None))]
    if probing is not None:
        options += [
            (socket.IPPROTO_TCP, getattr(socket, name), value)
            for name, value in zip(
                ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT"), probing, strict=True
            )
            if hasattr(socket, name)  # macOS calls the first one otherwise
        ]
    with contextlib.suppress(OSError):  # it has ended meanwhile
        for option in options:
            handle.setsockopt(*option)
