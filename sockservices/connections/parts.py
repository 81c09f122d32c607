"""What may plug in to a host: settings, and what acts on them while the host runs.

A part is to a host what a factory is to a connection: frozen settings, from which the host makes
what runs. That takes part in the life of each connection (see ``lifecycle``) by its hooks. It has
those that it needs; the others are ``None``, and cost nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Generic, TypeVar

import attrs
from twisted.logger import Logger

from sockservices.connections.ledger import Connection, Ledger, Reason
from sockservices.settings import Settings
from sockservices.transports import AcceptingPort


@attrs.frozen
class Context:
    """Where a part runs."""

    service: str
    """The name of the service."""
    ledger: Ledger
    """Its connections."""
    reactor: Any
    """An ``IReactorTime``."""
    log: Logger
    """The service's log."""
    pause: Callable[[str], None]
    """Has all stream listeners accept no more, for the reason that is given."""
    resume: Callable[[str], None]
    """Has them accept again, if there is no other reason not to."""


class Part(Settings):
    """A group of settings that a host takes, such as ``Limits``; an ``attrs`` class, frozen."""

    def objection(self, listener: Any) -> str | None:
        """Return why a listener cannot go with these settings; ``None`` if it can."""
        return None

    def begin(self, context: Context) -> RunningPart[Any]:
        """Return what acts on these settings.

        Raises ``SettingError`` for a file that cannot be used.
        """
        raise NotImplementedError


_P = TypeVar("_P", bound=Part)


class RunningPart(Generic[_P]):
    """What acts on a group of settings in a running host.

    Parameters:
        settings: the settings, which ``change`` may replace.
        context: where it runs.
    """

    ask_socket: Callable[[Any, Any], Reason | None] | None = None
    """Returns why a connection just accepted is refused, given its peer's ``IAddress`` and its
    socket. Behind a proxy they are the proxy's."""
    ask_peer: Callable[[Any], Reason | None] | None = None
    """Returns the same when the peer is known for certain. ``None`` lets it in, and counts it."""
    ask_datagram: Callable[[Any], Reason | None] | None = None
    """Returns why a datagram is dropped, given its sender's ``IAddress``."""
    layer: Callable[[Any], Any] | None = None
    """Returns the factory that builds protocols, in a layer such as TLS around the given one."""
    header: Callable[[Callable[..., None], Callable[..., None]], Any] | None = None
    """Returns a protocol that reads what comes before all else. It calls the first function with
    what it has found, or the second with what was wrong."""
    entered: Callable[[Connection], None] | None = None
    """A connection has a transport, and is in the ledger."""
    waiting: Callable[[Connection, Callable[[], bool]], None] | None = None
    """A connection waits for its header or its handshake. The function says whether it is done."""
    opened: Callable[[Connection, Any], None] | None = None
    """The service has got a connection from this ``IAddress``."""
    closed: Callable[[Connection], None] | None = None
    """A connection that was entered is in the ledger no more."""

    def __init__(self, settings: _P, context: Context) -> None:
        self.context = context
        self.apply(settings, self.prepare(settings))

    def prepare(self, settings: _P) -> Any:
        """Read what the settings name; raises ``SettingError`` if it cannot be used."""

    def apply(self, settings: _P, prepared: Any) -> None:
        """Act on these settings from now on, and set the hooks.

        Parameters:
            settings: the settings.
            prepared: what ``prepare`` has returned for them.
        """
        self.settings = settings

    def change(self, settings: _P) -> Callable[[], None]:
        """Return what puts other settings in force, which cannot fail any more.

        Raises ``SettingError``; then all stays as it is.
        """
        return partial(self.apply, settings, self.prepare(settings))

    @property
    def files(self) -> str | None:
        """What it has read from files, in a word, if it has."""
        return None

    def listens(self, port: AcceptingPort) -> None:
        """A port listens, or is to go by settings that have changed."""

    def start(self) -> None:
        """The host starts."""

    def stop(self) -> None:
        """The host has stopped."""
