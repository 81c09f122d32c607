"""The parts of a host: settings, and the objects that act on them while the host runs.

A part is to a host what a factory is to a connection: frozen settings, from which the host creates
a running part. Its hooks are called during the life of each connection (see ``lifecycle``). It
sets the hooks that it needs; the others are ``None`` and cost nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from typing import Any, Generic, TypeAlias, TypeVar

import attrs
from twisted.logger import Logger

from sockservices.connections.ledger import Connection, Ledger, Reason
from sockservices.settings import Settings
from sockservices.transports.hosted_port import HostedPort

_T = TypeVar("_T")

Steps: TypeAlias = Generator[None, None, _T]
"""A call in short steps, so that others have their turn in between."""


def at_once(steps: Steps[_T]) -> _T:
    """Take all steps, and return the result."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            result: _T = done.value
            return result


@attrs.frozen
class Context:
    """The surroundings of a running part."""

    service: str
    """The name of the service."""
    ledger: Ledger
    """The connections of the service."""
    reactor: Any
    """An ``IReactorTime``."""
    log: Logger
    """The service's log."""
    pause: Callable[[str], None]
    """Stops accepting on all stream listeners, for the given reason."""
    resume: Callable[[str], None]
    """Removes the reason, and accepts again if no other reason is left."""


class Part(Settings):
    """A group of settings for a host, such as ``Limits``: a frozen ``attrs`` class."""

    def objection(self, listener: Any) -> str | None:
        """Return why a listener cannot be used with these settings, or ``None`` if it can."""
        return None

    def begin(self, context: Context) -> RunningPart[Any]:
        """Return the running part for these settings.

        Raises ``SettingError`` for a file that cannot be used.
        """
        raise NotImplementedError


_P = TypeVar("_P", bound=Part)


class RunningPart(Generic[_P]):
    """The object that acts on a group of settings in a running host.

    Parameters:
        settings: the settings, which ``change`` can replace.
        context: the surroundings.
    """

    ask_socket: Callable[[Any, Any], Reason | None] | None = None
    """Returns why a new connection is refused, given its peer's ``IAddress`` and its socket. Behind
    a proxy these are the proxy's."""
    ask_place: Callable[[], Reason | None] | None = None
    """Returns why there is no room for a connection whose header has not been read yet."""
    ask_peer: Callable[[Any, bool], Reason | None] | None = None
    """Returns why a connection from this ``IAddress`` is refused, once the peer is certain, or
    ``None`` to admit and count it. The second argument tells whether the connection already has a
    place, because it came from a proxy."""
    ask_datagram: Callable[[Any], Reason | None] | None = None
    """Returns why a datagram is dropped, given its sender's ``IAddress``."""
    layer: Callable[[Any], Any] | None = None
    """Returns a factory that wraps the given one in a layer such as TLS."""
    header: Callable[[Callable[..., None], Callable[..., None]], Any] | None = None
    """Returns a protocol that reads the header of a connection. It calls the first function with
    the header, or the second with the error."""
    entered: Callable[[Connection], None] | None = None
    """Called when a connection is entered in the ledger before its header has been read."""
    waiting: Callable[[Connection, Callable[[], bool]], None] | None = None
    """Called when a connection waits for its header or handshake. The function returns whether that
    is complete."""
    opened: Callable[[Connection, Any], None] | None = None
    """Called when a connection from this ``IAddress`` is admitted, before the service gets it."""
    closed: Callable[[Connection], None] | None = None
    """Called when an entered connection has left the ledger."""

    def __init__(self, settings: _P, context: Context) -> None:
        self.context = context
        self.apply(settings, at_once(self.prepare_in_steps(settings)))

    def prepare(self, settings: _P) -> Any:
        """Read the files that the settings name; raise ``SettingError`` if one cannot be used."""

    def prepare_in_steps(self, settings: _P) -> Steps[Any]:
        """Do the same in steps of a few milliseconds. Override this for files that may be large.

        When a running host reads its files again, the event loop turns between the steps.
        """
        return self.prepare(settings)
        yield

    def apply(self, settings: _P, prepared: Any) -> None:
        """Act on these settings from now on, and set the hooks.

        Parameters:
            settings: the settings.
            prepared: what ``prepare`` or ``prepare_in_steps`` returned for them.
        """
        self.settings = settings

    def change(self, settings: _P) -> Callable[[], None]:
        """Return a function that applies other settings and cannot fail.

        Raises ``SettingError``; in that case nothing changes.
        """
        return at_once(self.change_in_steps(settings))

    def change_in_steps(self, settings: _P) -> Steps[Callable[[], None]]:
        """Do the same in steps, like ``prepare_in_steps``."""
        return partial(self.apply, settings, (yield from self.prepare_in_steps(settings)))

    @property
    def files(self) -> str | None:
        """One word for what it has read from files, or ``None``."""
        return None

    def listens(self, port: HostedPort) -> None:
        """Set up a port that has begun to listen, or apply changed settings to it."""

    def start(self) -> None:
        """Begin to act, because the host starts."""

    def stop(self) -> None:
        """Stop acting, because the host has stopped."""
