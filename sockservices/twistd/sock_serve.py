"""``twistd -n sock-serve --factory NAME``: serve any factory or datagram protocol, no plugin."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any, ClassVar

from twisted.application.service import IService
from twisted.python import usage

from sockservices.converters import name_and_value
from sockservices.errors import SettingError
from sockservices.process.file_descriptors import open_standard_ones
from sockservices.service import Served
from sockservices.settings import Source, variable
from sockservices.twistd.declaration import LoadError, load
from sockservices.twistd.options import HostOptions
from sockservices.twistd.run import make_service

_FACTORY = (
    "Serve the protocol factory, protocol class, datagram protocol or function with this dotted "
    "name, such as package.module.Factory. Modules in the current directory are found too."
)


class Options(HostOptions):
    """The options that every service has, and what to serve."""

    optParameters: ClassVar[list[list[Any]]] = [["factory", None, None, _FACTORY]]

    def __init__(self) -> None:
        open_standard_ones()
        super().__init__("sock-serve")
        self.served = Served(self.command, None, None, "stream")  # until --factory is read
        self._with: dict[str, list[str]] = {}

    def opt_with(self, pair: str) -> None:
        """Pass this argument, NAME=VALUE, to the factory. Can be repeated."""
        try:
            name, value = name_and_value(pair, "NAME=VALUE")
        except ValueError as error:
            raise usage.UsageError(f"--with: {error}") from None
        self._with.setdefault(name, []).append(value)

    def own_rows(self) -> list[tuple[str, str]]:
        """See ``HostOptions.own_rows``."""
        return [
            ("--factory=NAME", f"{_FACTORY} [required]"),
            ("--with=NAME=VALUE", "Pass this argument to the factory. Can be repeated."),
        ]

    def own_source(self) -> Source:
        """Return the arguments given by ``--with``."""
        repeated = {each.argument for each in self.served.settings() if each.is_repeated}
        given = {
            name: values if name in repeated else values[-1] for name, values in self._with.items()
        }
        return Source(given, lambda argument: f"--with {argument}")

    def postOptions(self) -> None:
        """Find the factory, and check its arguments."""
        self["factory"] = self["factory"] or os.environ.get(variable(self.command, "factory"))
        if not self["factory"]:
            raise usage.UsageError("nothing to serve: give --factory package.module.Factory")
        with contextlib.suppress(FileNotFoundError):  # the directory may have been removed
            sys.path.append(os.getcwd())  # as python -m does, but after all installed packages
        try:
            self.served = Served.of(self["factory"], load(self["factory"]))
        except (LoadError, SettingError) as error:
            raise usage.UsageError(f"--factory: {error}") from error
        try:
            self.served.check_names(self._with)
        except SettingError as error:
            raise usage.UsageError(f"--with: {error}") from None
        super().postOptions()


def makeService(options: Options) -> IService:
    """Build what runs the service. See ``twisted.application.service.ServiceMaker``."""
    return make_service(options)
