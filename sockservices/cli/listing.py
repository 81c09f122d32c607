"""``sockservices list``: every service installed, this package's and others'."""

from __future__ import annotations

from collections.abc import Iterator

import click
from twisted.application.service import IServiceMaker
from twisted.plugin import getPlugins

from sockservices.entry_points import declaration, service_entry_points
from sockservices.loading import LoadError, load
from sockservices.options import declared_options
from sockservices.plugin import SocketServiceMaker


@click.command("list")
def list_services() -> None:
    """List the services that are installed.

    For each: the twistd command, the kinds of socket (the one that --port and --socket mean comes
    first), a description, and the options of its own.
    """
    for command, maker in installed():
        if isinstance(maker, LoadError):
            click.echo(f"{command}\n    broken: {maker}")
            continue
        click.echo(f"{command}  ({', '.join(maker.kinds)})\n    {maker.description}")
        for line in _own_options(maker):
            click.echo(f"      {line}")


def installed() -> Iterator[tuple[str, SocketServiceMaker | LoadError]]:
    """Find the twistd commands, then those entry points that no twistd command declares."""
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


def _own_options(maker: SocketServiceMaker) -> list[str]:
    try:
        factories = [load(name) for name in {maker.stream, maker.datagram} if name is not None]
    except LoadError as error:
        return [f"broken: {error}"]
    declared = {each.name: each for factory in factories for each in declared_options(factory)}
    rows = [
        (f"--{each.name}{'' if each.is_flag else '='}", each.described())
        for each in declared.values()
    ]
    width = max((len(name) for name, _help in rows), default=0)
    return [f"{name:<{width}}  {help_text}".rstrip() for name, help_text in rows]
