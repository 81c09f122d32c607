"""The declaration of a service: a few names and strings that make it a ``twistd`` command."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs
from twisted.application.service import IService, IServiceMaker
from twisted.plugin import IPlugin
from twisted.python import usage
from twisted.python.reflect import namedAny
from zope.interface import implementer

if TYPE_CHECKING:
    from sockservices.service import Kind, Served


class LoadError(Exception):
    """The error, of one line, for a dotted name that cannot be imported."""


def load(dotted_name: str) -> Any:
    """Return the object with a dotted name; raise ``LoadError`` if there is none."""
    try:
        return namedAny(dotted_name)
    except (Exception, SystemExit) as error:
        from sockservices.mistakes import described

        raise LoadError(f"cannot import {dotted_name!r}: {described(error)}") from error


@implementer(IPlugin, IServiceMaker)
@attrs.frozen
class SocketServiceMaker:
    """The declaration of a service to ``twistd`` and ``twist``, which import it only to run it.

    Parameters:
        tapname: the command, as in ``twistd -n sock-echo``.
        description: one line for ``twistd --help``.
        stream: the dotted name of a protocol factory, of its class, of a protocol class, or of a
            function that returns a factory.
        datagram: the dotted name of an ``IDatagramFactory``, of its class, of a
            ``DatagramProtocol`` class, of which each listener gets an instance, or of a function
            that returns one of them. The same name as ``stream`` if one factory serves both.
        first: the kind, ``"stream"`` or ``"datagram"``, that ``--port`` and ``--socket`` mean
            if the service has both.

    Raises ``ValueError`` if neither kind is named.
    """

    tapname: str
    description: str
    stream: str | None = attrs.field(default=None, kw_only=True)
    datagram: str | None = attrs.field(default=None, kw_only=True)
    first: Kind = attrs.field(
        default="stream", kw_only=True, validator=attrs.validators.in_(("stream", "datagram"))
    )

    def __attrs_post_init__(self) -> None:
        if not self.kinds:
            raise ValueError(
                f"{self.tapname} names neither a stream factory nor a datagram protocol"
            )

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds served, ``stream``, ``datagram`` or both; first the one ``--port`` means."""
        both: tuple[Kind, ...] = ("stream", "datagram")
        kinds = [kind for kind in both if getattr(self, kind) is not None]
        return tuple(sorted(kinds, key=lambda kind: kind != self.first))

    def options(self) -> usage.Options:
        """Import the service, and return its options. See ``IServiceMaker.options``."""
        from sockservices.process.file_descriptors import open_standard_ones
        from sockservices.twistd.options import options_for, say_why

        open_standard_ones()
        try:
            return options_for(self.served())
        except LoadError as error:
            say_why(self.tapname, error)
            sys.exit(1)

    def served(self) -> Served:
        """Import the service; raise ``LoadError`` if that fails, or if it is no service."""
        from sockservices.service import Served

        found = {kind: self.builder(kind) for kind in self.kinds}
        return Served(self.tapname, found.get("stream"), found.get("datagram"), self.kinds[0])

    def builder(self, kind: Kind) -> Callable[..., Any]:
        """Import what builds the service of a kind; raise ``LoadError``."""
        from sockservices.errors import SettingError
        from sockservices.service import builder

        name = getattr(self, kind)
        try:
            return builder(kind, f"{kind}={name!r}", load(name))
        except SettingError as error:
            raise LoadError(str(error)) from None

    def makeService(self, options: Any) -> IService:
        """See ``IServiceMaker.makeService``."""
        from sockservices.twistd.run import make_service

        return make_service(options)
