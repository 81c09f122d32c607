"""``sockservices refresh``: rebuild Twisted's plugin cache."""

from __future__ import annotations

import os

import click
from twisted.plugin import IPlugin, getPlugins

import twisted.plugins
from sockservices.cli.errors import CouldNot
from sockservices.printable import Count, system_reason


@click.command()
def refresh() -> None:
    """Rebuild Twisted's plugin cache.

    For image builds and packages. If a plugin file is older than the cache beside it (image layers
    and clamped file times cause this), twistd does not find its commands, and may not start at all.
    """
    directories = [each for each in twisted.plugins.__path__ if os.path.isdir(each)]
    for directory in directories:
        cache = os.path.join(directory, "dropin.cache")
        try:
            os.remove(cache)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise CouldNot(f"cannot rebuild {cache}: {system_reason(error)}") from None
    count = Count(len(list(getPlugins(IPlugin))), "plugin", "plugins")
    missing = [
        directory
        for directory in directories
        if os.listdir(directory) and not os.path.exists(os.path.join(directory, "dropin.cache"))
    ]
    if missing:
        raise CouldNot(f"cannot write dropin.cache in {missing[0]}: is it writable?")
    click.echo(f"{count} cached in {', '.join(directories)}")
