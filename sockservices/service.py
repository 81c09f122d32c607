"""Services: the interfaces they may provide beyond Twisted's own, and how one is built."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

import attrs
from twisted.internet.interfaces import IProtocol, IProtocolFactory
from twisted.internet.protocol import AbstractDatagramProtocol, Factory
from zope.interface import Attribute, Interface

from sockservices.errors import SettingError
from sockservices.printable import DatagramPeer
from sockservices.settings import Setting, Source, build, returned_by, settings_of
from sockservices.suggestions import did_you_mean

Kind = Literal["stream", "datagram"]


class IDatagramFactory(Interface):
    """A factory of datagram protocols, one for each listener; cf. ``IProtocolFactory``.

    For services whose listeners share something, such as a count or an output. Without that, a
    ``DatagramProtocol`` class is enough, of which each listener gets its own instance.
    """

    def build_datagram_protocol():  # type: ignore[no-untyped-def]
        """Return a new ``twisted.internet.protocol.DatagramProtocol``."""


class IBatchReceiver(Interface):
    """A datagram protocol that takes all datagrams of one wake-up of the listener in a batch.

    For a protocol that does something once for all of them, such as writing to a file. Without this
    interface, the listener calls ``datagramReceived`` for each datagram.
    """

    def datagrams_received(datagrams: list[tuple[bytes, DatagramPeer]]) -> None:
        """Take the datagrams, in the order in which they arrived.

        Parameters:
            datagrams: the bytes and the peer of each, as for ``datagramReceived``.
        """


class ITruncationReceiver(Interface):
    """A datagram protocol that is told of datagrams longer than its buffer.

    Without this interface, the listener passes the part that fits to ``datagramReceived``, and logs
    that it was truncated.
    """

    max_datagram_size: int = Attribute("The longest datagram accepted whole, in bytes.")

    def datagram_truncated(data: bytes, size: int, peer: DatagramPeer) -> None:
        """Take the first ``max_datagram_size`` bytes of a datagram that had ``size`` bytes.

        Parameters:
            data: ``bytes``, the part that was read.
            size: ``int``, the datagram's original length in bytes, where the system tells it
                (Linux); elsewhere ``len(data)``.
            peer: as for ``datagramReceived``.
        """


class IAnswering(Interface):
    """A datagram protocol that answers by ``transport.answer``, as ``AnsweringProtocol`` does.

    For it, a Unix listener asks the kernel for the user ID of each sender, which takes a little
    time. A sender that has a path is then a string with a ``uid`` attribute.
    """


class IDrainable(Interface):
    """A protocol that is told when its service shuts down.

    It may close its connection when its work is done, say goodbye, or take no more requests. A
    connection that is still open after ``--graceful-timeout`` is then closed.
    """

    def drain() -> None:
        """Finish, because the service shuts down; called once, if there is time to finish."""


class IPausesListeners(Interface):
    """A factory that pauses its listeners while it has more to do than it can keep in memory.

    A factory with an ``Output`` passes the functions on to ``Output.add_listeners``.
    """

    def add_listeners(pause: Callable[[], None], resume: Callable[[], None]) -> None:
        """Take the functions that pause and resume all listeners of one host.

        Parameters:
            pause: stops accepting connections and reading datagrams. They wait in the kernel.
            resume: starts again.
        """


class ILifespan(Interface):
    """A factory or datagram protocol that does something before it serves and after it has served.

    For what its connections share, such as a pool of connections to a database. Each method may
    return a ``Deferred`` or a coroutine, for which the host waits ``--lifespan-timeout`` at most;
    then it is cancelled. A service that has nothing to do in one of them leaves it empty.
    """

    def start() -> object:
        """Begin, before the service listens. If this fails, the service does not start."""

    def reload() -> object:
        """Read files again, because of SIGHUP. If this fails, the service continues."""

    def end() -> object:
        """Finish, after the last connection has ended; not called if ``start`` failed."""


@attrs.frozen
class Served:
    """The builders of a service.

    Parameters:
        name: the name of the service.
        stream: builds the stream factory; ``None`` without streams.
        datagram: builds the datagram factory or protocol; ``None`` without datagrams. The same
            object as ``stream`` if one factory serves both.
        first: the kind that ``--port`` and ``--socket`` mean.
    """

    name: str
    stream: Callable[..., Any] | None
    datagram: Callable[..., Any] | None
    first: Kind

    @classmethod
    def of(cls, name: str, found: Any) -> Served:
        """Determine the kinds that an object serves; raise ``SettingError`` if there are none.

        A function serves what its return annotation says, by default streams.
        """
        kinds = _kinds(found)
        if not kinds and not isinstance(found, type) and callable(found):
            kinds = _kinds_of_result(found)
        if not kinds:
            raise SettingError(
                f"{name} is {_what(found)}; expected a protocol factory, a protocol class, a "
                "datagram protocol, or a function that returns a factory"
            )
        builders = {kind: builder(kind, name, found) for kind in kinds}
        return cls(name, builders.get("stream"), builders.get("datagram"), kinds[0])

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds that it serves; none before ``sock-serve`` knows its factory."""
        kinds: tuple[Kind, ...] = ("stream", "datagram")
        return tuple(kind for kind in kinds if getattr(self, kind) is not None)

    def settings(self) -> list[Setting]:
        """Return the service's own settings; one that both kinds declare is listed once."""
        found = {}
        for factory in (self.datagram, self.stream):
            if factory is not None:
                found.update({each.name: each for each in settings_of(factory)})
        return list(found.values())

    def check_names(self, given: Iterable[str]) -> None:
        """Raise ``SettingError`` for an argument that the service does not have."""
        names = [each.argument for each in self.settings()]
        for each in given:
            if each not in names:
                has = ", ".join(names) or "none"
                hint = did_you_mean(each, names)
                raise SettingError(f"{self.name} has no setting {each!r}; it has: {has}{hint}")

    def build(self, *sources: Source) -> tuple[Any, Any]:
        """Build the service, and return what serves streams and what serves datagrams.

        Parameters:
            sources: the sources of the values of its settings.

        Raises ``SettingError``.
        """
        stream = self._build(self.stream, sources)
        if self.datagram is self.stream:
            return stream, stream
        # Build one now, so that a bad value is reported now; it serves the first listener.
        ready = [self._build(self.datagram, sources)]
        datagram = ready[0]
        if isinstance(datagram, AbstractDatagramProtocol) and not _is_built(self.datagram):

            def datagram() -> Any:
                return ready.pop() if ready else self._build(self.datagram, sources)

        return stream, datagram

    def _build(self, factory: Any, sources: tuple[Source, ...]) -> Any:
        if factory is None:
            return None
        if not _is_built(factory):
            built = build(factory, *sources)
            for kind in ("stream", "datagram"):
                if getattr(self, kind) is factory and (
                    isinstance(built, type) or kind not in _kinds(built)
                ):
                    named = getattr(factory, "__qualname__", repr(factory))
                    raise SettingError(
                        f"{named} returned {_what(built)}; expected {_RETURNED[kind]}"
                    )
            return built
        if any(source.given for source in sources):
            raise SettingError(f"{self.name} is already built: it takes no options")
        return factory


_EXPECTED: dict[Kind, str] = {
    "stream": "a protocol factory, a protocol class, or a function that returns a factory",
    "datagram": "a datagram protocol, an IDatagramFactory, or a function that returns one",
}
_RETURNED: dict[Kind, str] = {
    "stream": "a protocol factory",
    "datagram": "a datagram protocol or an IDatagramFactory",
}


def builder(kind: Kind, name: str, found: Any) -> Callable[..., Any]:
    """Return what builds a service of a kind from whatever an author may name for it.

    Parameters:
        kind: the kind of service.
        name: the name of the object, for errors.
        found: the object: a class, a function or a service that is built already.

    Raises ``SettingError`` for anything else.
    """
    kinds = _kinds(found)
    is_function = not kinds and not isinstance(found, type) and callable(found)
    if kind not in kinds and not is_function:
        hint = f"declare it as {kinds[0]}=" if kinds else f"expected {_EXPECTED[kind]}"
        raise SettingError(f"{name} is {_what(found)}; {hint}")
    if kind == "stream" and isinstance(found, type) and not _provides(IProtocolFactory, found):
        found = Factory.forProtocol(found)
    taken: Callable[..., Any] = found
    return taken


def _kinds(found: Any) -> tuple[Kind, ...]:
    """Return the kinds that a class or an object serves; those of a function are not known."""
    if is_datagram_protocol(found):
        return ("datagram",)
    is_protocol = isinstance(found, type) and _provides(IProtocol, found)
    streams = is_protocol or _provides(IProtocolFactory, found)
    kinds: dict[Kind, bool] = {"stream": streams, "datagram": _provides(IDatagramFactory, found)}
    return tuple(kind for kind, serves in kinds.items() if serves)


def _kinds_of_result(function: Callable[..., Any]) -> tuple[Kind, ...]:
    """Return the kinds that a function says it returns; streams if it does not say."""
    returned = returned_by(function)
    if returned is IDatagramFactory:
        return ("datagram",)
    return (isinstance(returned, type) and _kinds(returned)) or ("stream",)


def _what(found: Any) -> str:
    """Return what an object is, for an error."""
    if found is None:
        return "None"
    if is_datagram_protocol(found):
        return "a datagram protocol"
    if _provides(IProtocolFactory, found):
        return "a protocol factory"
    if isinstance(found, type):
        return f"the class {found.__name__}"
    name = type(found).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def is_datagram_protocol(found: Any) -> bool:
    """Whether an object is a datagram protocol, or a class of them."""
    if isinstance(found, type):
        return issubclass(found, AbstractDatagramProtocol)
    return isinstance(found, AbstractDatagramProtocol)


def _provides(interface: Any, found: Any) -> bool:
    """Whether an object provides an interface, or the instances of a class do."""
    if isinstance(found, type):
        return bool(interface.implementedBy(found))
    return bool(interface.providedBy(found))


def _is_built(found: Any) -> bool:
    """Whether this is a service itself, not a class or function that makes one."""
    return not isinstance(found, type) and (
        is_datagram_protocol(found)
        or _provides(IProtocolFactory, found)
        or _provides(IDatagramFactory, found)
    )


def datagram_builder(service: Any, datagram: Any) -> Callable[[], Any] | None:
    """Return what builds the protocol of each datagram listener, or ``None``.

    Parameters:
        service: a service, of any kind.
        datagram: what serves datagrams if ``service`` does not.
    """
    if datagram is None and (
        is_datagram_protocol(service)
        or (not isinstance(service, type) and IDatagramFactory.providedBy(service))
    ):
        datagram = service
    if IDatagramFactory.providedBy(datagram):
        datagram = datagram.build_datagram_protocol
    if isinstance(datagram, AbstractDatagramProtocol):
        return lambda: datagram
    builder: Callable[[], Any] | None = datagram
    return builder


def name_of(service: Any) -> str:
    """Return the default name of a service."""
    return str(getattr(service, "__name__", type(service).__name__))
