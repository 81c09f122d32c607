"""What a host asks of a port, whoever has made it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal

from twisted.internet.defer import Deferred, maybeDeferred

from sockservices.printable import listening_at


class HostedPort:
    """A port that a host can suspend and finish. To be mixed into Twisted's ports, before them."""

    kind: Literal["stream", "datagram"]
    """What it listens for."""
    can_limit: ClassVar[bool] = True
    """Whether it goes by limits: of its connections' buffers, or of its datagrams."""
    keeps_address: bool = True
    """Whether nobody else can listen there before it has finished."""
    on_error: Callable[[OSError], object] | None = None
    """Called with each error of its socket that it survives."""
    on_closed: Callable[[str | None], object] | None = None
    """Called when it has closed: with the reason if nobody asked it to, else with ``None``."""
    # Methods that Twisted's ports have.
    getHost: Any
    startReading: Any
    stopReading: Any
    stopListening: Any
    fileno: Any

    @property
    def description(self) -> str:
        """Where it listens, as an endpoint description."""
        return listening_at(self.getHost())

    @property
    def is_finishing(self) -> bool:
        """Whether it is closing, and still serves what the kernel had taken for it."""
        raise NotImplementedError

    def finish(self, seconds: float) -> Any:
        """Close: when everything that the kernel has taken for it is served, or after that time.

        Returns a ``Deferred`` that fires when it is closed.
        """
        raise NotImplementedError


class ForeignPort(HostedPort):
    """A port that somebody else has made, which may be able to do less.

    Parameters:
        port: an ``IListeningPort``.
        kind: what it listens for.
    """

    can_limit = False
    keeps_address = False
    is_finishing = False  # as it closes at once

    def __init__(self, port: Any, kind: Literal["stream", "datagram"]) -> None:
        self.port = port
        self.kind = kind
        self.getHost = port.getHost
        self._closed: Deferred[Any] | None = None

    def startReading(self) -> None:
        """Accept again, if it can be paused at all; if not, a limit refuses what it lets in."""
        if hasattr(self.port, "stopReading") and hasattr(self.port, "startReading"):
            self.port.startReading()

    def stopReading(self) -> None:
        """Accept no more, if it can be paused."""
        if hasattr(self.port, "stopReading") and hasattr(self.port, "startReading"):
            self.port.stopReading()

    def stopListening(self) -> Deferred[Any]:
        """Close; harmless where it closes already. See ``IListeningPort``."""
        if self._closed is None:
            self._closed = maybeDeferred(self.port.stopListening)
        closed: Deferred[Any] = Deferred()
        self._closed.chainDeferred(closed)
        return closed

    def finish(self, seconds: float) -> Deferred[Any]:
        """Close at once."""
        return self.stopListening()
