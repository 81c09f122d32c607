"""``twistd -n sock-serve --factory NAME``: any factory or datagram protocol, without a plugin."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any, ClassVar

from twisted.application.service import IService
from twisted.internet.interfaces import IProtocol, IProtocolFactory
from twisted.internet.protocol import AbstractDatagramProtocol, Factory
from twisted.python import usage

from sockservices.command_line import HostOptions, Served
from sockservices.converters import name_and_value
from sockservices.interfaces import IDatagramFactory
from sockservices.loading import LoadError, load
from sockservices.options import OptionError
from sockservices.parameters import coerced


class Options(HostOptions):
    """The options that every service has, and what to serve."""

    optParameters: ClassVar[list[list[Any]]] = [
        [
            "factory",
            None,
            None,
            "Dotted name of a protocol factory, a protocol or a datagram protocol. [required]",
        ],
    ]
    longdesc = "Modules in the current folder can be named, too."

    def __init__(self) -> None:
        super().__init__()
        self._with: dict[str, str] = {}

    def opt_with(self, pair: str) -> None:
        """NAME=VALUE, an argument of the factory; may be repeated."""
        name, value = coerced(lambda text: name_and_value(text, "NAME=VALUE"), "with")(pair)
        self._with[name] = value

    def own_options(self) -> dict[str, str]:
        """Return what ``--with`` gave."""
        return self._with

    def postOptions(self) -> None:
        """Find the factory, and check what it is given."""
        if self["factory"] is None:
            raise usage.UsageError("nothing to serve: give --factory package.module.Factory")
        with contextlib.suppress(FileNotFoundError):  # a folder that was removed meanwhile
            sys.path.append(os.getcwd())  # as python -m does, but behind all that is installed
        try:
            self.served = served(self["factory"], load(self["factory"]))
        except (LoadError, OptionError) as error:
            raise usage.UsageError(f"--factory: {error}") from None
        self._check_with()
        super().postOptions()

    def _check_with(self) -> None:
        declared = {each.name: each for each in self.served.declared()}
        for name, value in self._with.items():
            if name not in declared:
                has = ", ".join(declared) or "none"
                raise usage.UsageError(
                    f"--with: {self['factory']} has no option {name!r}; it has: {has}"
                )
            try:
                declared[name].value(value)
            except OptionError as error:
                raise usage.UsageError(f"--with: {error}") from None


def served(name: str, found: Any) -> Served:
    """Tell from an object what kinds it serves; raise ``OptionError`` if none."""
    if isinstance(found, AbstractDatagramProtocol) or (
        isinstance(found, type) and issubclass(found, AbstractDatagramProtocol)
    ):
        datagram: Any = found
        return Served(name, None, datagram, "datagram")
    if isinstance(found, type):
        streams = IProtocolFactory.implementedBy(found)
        datagrams = IDatagramFactory.implementedBy(found)
        if not streams and not datagrams and IProtocol.implementedBy(found):
            factory: Any = Factory.forProtocol(found)
            return Served(name, factory, None, "stream")
    else:
        streams = IProtocolFactory.providedBy(found)
        datagrams = IDatagramFactory.providedBy(found)
    if not (streams or datagrams):
        raise OptionError(f"{name} is neither a protocol factory nor a datagram protocol")
    return Served(
        name,
        found if streams else None,
        found if datagrams else None,
        "stream" if streams else "datagram",
    )


def makeService(options: Options) -> IService:
    """Build the host. See ``twisted.application.service.ServiceMaker``."""
    service: IService = options.make_service()
    return service
