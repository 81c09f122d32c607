"""What a service is: what it may offer beyond Twisted's own interfaces, and how one is built."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

import attrs
from twisted.internet.interfaces import IProtocol, IProtocolFactory
from twisted.internet.protocol import AbstractDatagramProtocol, Factory
from zope.interface import Attribute, Interface

from sockservices.errors import SettingError
from sockservices.printable import DatagramPeer
from sockservices.settings import Setting, Source, build, settings_of

Kind = Literal["stream", "datagram"]


class IDatagramFactory(Interface):
    """Makes a datagram protocol for each listener, as ``IProtocolFactory`` does for connections.

    For services whose listeners share something: a count, an output. A service without that is
    a ``DatagramProtocol`` class, of which each listener gets an object of its own.
    """

    def build_datagram_protocol():  # type: ignore[no-untyped-def]
        """Return a new ``twisted.internet.protocol.DatagramProtocol``."""


class IBatchReceiver(Interface):
    """A datagram protocol that takes together what had arrived when the listener woke up.

    For a protocol that does something once for them all, such as to write to a file. Without it
    the listener calls ``datagramReceived`` for each.
    """

    def datagrams_received(datagrams: list[tuple[bytes, DatagramPeer]]) -> None:
        """Take the datagrams, in the order in which they came.

        Parameters:
            datagrams: of each its bytes and its peer, as for ``datagramReceived``.
        """


class ITruncationReceiver(Interface):
    """A datagram protocol that wants to know of datagrams longer than its buffer.

    Without it the listener hands the part that fits to ``datagramReceived`` and logs the cut.
    """

    max_datagram_size: int = Attribute("The longest datagram taken whole, in bytes.")

    def datagram_truncated(data: bytes, size: int, peer: DatagramPeer) -> None:
        """Take the first ``max_datagram_size`` bytes of a datagram that had ``size`` bytes.

        Parameters:
            data: ``bytes``, what was read.
            size: ``int``, the datagram's own length in bytes, where the system tells (Linux);
                elsewhere ``len(data)``.
            peer: as for ``datagramReceived``.
        """


class IAnswering(Interface):
    """A datagram protocol that answers by ``transport.answer``, as ``AnsweringProtocol`` does.

    To it a Unix listener tells the senders that have a path as strings with their user's number
    (``uid``), which it asks the kernel for; that costs each datagram a little time.
    """


class IDrainable(Interface):
    """A protocol that wants to know that its service stops.

    It may end its connection when its work is done, say good-bye, or take no more requests. What
    is not ended when ``--graceful-timeout`` is over ends then.
    """

    def drain() -> None:
        """Finish: the service stops. Called once, and only if there is time to finish."""


@attrs.frozen
class Served:
    """What builds a service.

    Parameters:
        name: what the service is called.
        stream: builds the stream factory; ``None`` without streams.
        datagram: builds the datagram factory or protocol; ``None`` without datagrams. The same
            object as ``stream`` where one factory serves both.
        first: the kind that ``--port`` and ``--socket`` mean.
    """

    name: str
    stream: Callable[..., Any] | None
    datagram: Callable[..., Any] | None
    first: Kind

    @classmethod
    def of(cls, name: str, found: Any) -> Served:
        """Tell from an object what kinds it serves; raise ``SettingError`` if none."""
        if is_datagram_protocol(found):
            return cls(name, None, found, "datagram")
        streams, datagrams = _provides(IProtocolFactory, found), _provides(IDatagramFactory, found)
        if not (streams or datagrams):
            if isinstance(found, type) and _provides(IProtocol, found):
                factory: Any = Factory.forProtocol(found)
                return cls(name, factory, None, "stream")
            raise SettingError(f"{name} is neither a protocol factory nor a datagram protocol")
        return cls(
            name,
            found if streams else None,
            found if datagrams else None,
            "stream" if streams else "datagram",
        )

    def settings(self) -> list[Setting]:
        """Return the service's own settings; one that both kinds declare comes once."""
        found = {}
        for factory in (self.datagram, self.stream):
            if factory is not None:
                found.update({each.name: each for each in settings_of(factory)})
        return list(found.values())

    def check_names(self, given: Iterable[str]) -> None:
        """Raise ``SettingError`` for an argument that the service does not take."""
        names = [each.argument for each in self.settings()]
        for each in given:
            if each not in names:
                has = ", ".join(names) or "none"
                raise SettingError(f"{self.name} has no setting {each!r}; it has: {has}")

    def build(self, *sources: Source) -> tuple[Any, Any]:
        """Build the service: what serves streams, and what serves datagrams.

        Parameters:
            sources: where the values of its settings come from.

        Raises ``SettingError``.
        """
        stream = self._build(self.stream, sources)
        if self.datagram is self.stream:
            return stream, stream
        # One is built at once, so that a bad value is known now; it serves the first listener.
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
            return build(factory, *sources)
        if any(source.given for source in sources):
            raise SettingError(f"{self.name} is an object already built: it takes no options")
        return factory


def is_datagram_protocol(found: Any) -> bool:
    """Whether this is a datagram protocol, or a class of them."""
    if isinstance(found, type):
        return issubclass(found, AbstractDatagramProtocol)
    return isinstance(found, AbstractDatagramProtocol)


def _provides(interface: Any, found: Any) -> bool:
    """Whether an object provides an interface, or the objects of a class do."""
    if isinstance(found, type):
        return bool(interface.implementedBy(found))
    return bool(interface.providedBy(found))


def _is_built(found: Any) -> bool:
    """Whether this is a service already, and not the class or function that makes one."""
    return not isinstance(found, type) and (
        is_datagram_protocol(found)
        or _provides(IProtocolFactory, found)
        or _provides(IDatagramFactory, found)
    )


def datagram_builder(service: Any, datagram: Any) -> Callable[[], Any] | None:
    """Return what makes the protocol of each datagram listener, if there can be any.

    Parameters:
        service: a service, of any kind.
        datagram: what serves datagrams where ``service`` does not.
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
    """Return what a service is called that has no other name."""
    return str(getattr(service, "__name__", type(service).__name__))
