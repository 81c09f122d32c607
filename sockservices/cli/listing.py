"""``sockservices list``: list all installed services, of this package and of others."""

from __future__ import annotations

import click

from sockservices.cli.errors import CouldNot
from sockservices.printable import escaped
from sockservices.suggestions import did_you_mean
from sockservices.twistd.declaration import LoadError, SocketServiceMaker
from sockservices.twistd.installed import installed
from sockservices.twistd.options import rows


@click.command("list")
@click.argument("name", required=False)
def list_services(name: str | None) -> None:
    """List the installed services.

    For each, show the twistd command, the kinds of socket (first the one that --port and --socket
    mean), a description, and its own options. With NAME, show all options of that service.
    """
    if name is None:
        for command, maker in installed():
            _list(command, maker)
        click.echo(
            "Every service also takes options for listening, limits, timeouts, TLS and more:\n"
            "sockservices list NAME"
        )
        return
    maker = found(name)
    click.echo(_title(name, maker) + "\n")
    click.echo(maker.options().getUsage().lstrip(), nl=False)


def _title(command: str, maker: SocketServiceMaker) -> str:
    return f"{command}  ({', '.join(maker.kinds)})\n    {maker.description}"


def _list(command: str, maker: SocketServiceMaker | LoadError) -> None:
    if isinstance(maker, LoadError):
        click.echo(f"{command}\n    broken: {maker}")
        return
    click.echo(_title(command, maker))
    try:
        own = rows(maker.served().settings())
    except LoadError as error:
        click.echo(f"      broken: {error}")
        return
    if own:
        indent = 6
        help_text = click.HelpFormatter(width=80 - indent)  # which does not count it
        help_text.current_indent = indent
        help_text.write_dl(own)
        click.echo(help_text.getvalue(), nl=False)


def found(name: str) -> SocketServiceMaker:
    """Return the declaration of an installed service; raise ``CouldNot`` if there is none."""
    services = {command.removeprefix("sock "): maker for command, maker in installed()}
    maker = services.get(name.removeprefix("sock "))
    if maker is None:
        hint = did_you_mean(name, services)
        raise CouldNot(
            f"there is no service {escaped(name)!r}; there are {', '.join(services)}{hint}"
        )
    if isinstance(maker, LoadError):
        raise CouldNot(f"{name}: {maker}") from maker
    return maker
