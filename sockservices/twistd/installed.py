"""Services that packages declare as entry points, and the command ``sock`` that runs them.

Entry points are read at each start, from each package's own metadata. So no cache can be stale,
and a broken package does not hide the services of others.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import Distribution, EntryPoint, distributions

from twisted.application.service import IService, IServiceMaker
from twisted.logger import Logger
from twisted.plugin import getPlugins
from twisted.python import usage

from sockservices.mistakes import described
from sockservices.suggestions import did_you_mean
from sockservices.twistd.declaration import LoadError, SocketServiceMaker
from sockservices.twistd.options import OneLineErrors, say_why
from sockservices.twistd.run import make_service

GROUP = "sockservices.services"

_log = Logger(namespace="sockservices")


def service_entry_points() -> list[EntryPoint]:
    """Return the entry points of all installed packages, sorted by name, without importing them.

    If two have the same name, ours wins, otherwise the first one found. A hidden entry point is
    logged, and so is a package whose metadata cannot be read.
    """
    found: dict[str, EntryPoint] = {}
    for package in sorted(distributions(), key=_is_foreign):
        try:
            declared = list(package.entry_points.select(group=GROUP))
        except Exception as error:  # broken metadata must not hide the other packages
            _log.warn(
                "cannot read the entry points of {package}: {reason}",
                package=_name(package),
                reason=error,
            )
            continue
        for each in declared:
            if each.name in found and each.value != found[each.name].value:
                _log.warn(
                    "{value} is hidden by another service named {name}",
                    value=each.value,
                    name=each.name,
                )
            found.setdefault(each.name, each)
    return [found[name] for name in sorted(found)]


def _is_foreign(package: Distribution) -> bool:
    return _name(package) != "sockservices"


def _name(package: Distribution) -> str:
    try:
        return str(package.metadata["Name"])
    except Exception:  # metadata in an unknown encoding
        return "a package without a readable name"


def declaration(entry_point: EntryPoint) -> SocketServiceMaker:
    """Import the declaration that an entry point names; raise ``LoadError``."""
    try:
        found = entry_point.load()
    except (Exception, SystemExit) as error:
        raise LoadError(f"cannot import {entry_point.value}: {described(error)}") from error
    if not isinstance(found, SocketServiceMaker):
        raise LoadError(f"{entry_point.value} is not a SocketServiceMaker but {found!r}")
    return found


def installed() -> Iterator[tuple[str, SocketServiceMaker | LoadError]]:
    """Yield the twistd commands, then the entry points that no twistd command declares."""
    plugins = {
        maker.tapname: maker
        for maker in getPlugins(IServiceMaker)
        if isinstance(maker, SocketServiceMaker)
    }
    yield from sorted(plugins.items())
    for entry_point in service_entry_points():
        try:
            maker = declaration(entry_point)
        except LoadError as error:
            yield f"sock {entry_point.name}", error
        else:
            if plugins.get(maker.tapname) != maker:
                yield f"sock {entry_point.name}", maker


class Options(OneLineErrors):
    """The services of all installed packages as subcommands."""

    synopsis = "NAME [options]"

    @property
    def subCommands(self) -> list[tuple[str, None, Callable[[], usage.Options], str]]:
        """See ``twisted.python.usage.Options``."""
        return [
            (each.name, None, functools.partial(_options, each), _description(each))
            for each in service_entry_points()
        ]

    def postOptions(self) -> None:
        """Reject a command line without a service."""
        if self.subCommand is None:
            raise usage.UsageError("No service given")

    def explained(self, error: usage.UsageError) -> str:
        """Add the names of the available services to an error."""
        text = super().explained(error)
        if text != str(error):
            return text
        names = [each.name for each in service_entry_points()]
        hint = did_you_mean(text.rpartition(" ")[2], names)
        return f"{text}; available: {', '.join(names) or 'none installed'}{hint}"


def _options(entry_point: EntryPoint) -> usage.Options:
    try:
        return declaration(entry_point).options()
    except LoadError as error:
        say_why(f"sock {entry_point.name}", error)
        sys.exit(1)


def _description(entry_point: EntryPoint) -> str:
    try:
        return declaration(entry_point).description
    except LoadError as error:
        return f"(broken: {error})"


def makeService(options: Options) -> IService:
    """Build what runs the service. See ``twisted.application.service.ServiceMaker``."""
    return make_service(options.subOptions)
