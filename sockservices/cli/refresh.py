"""``sockservices refresh``: build Twisted's plugin cache anew."""

from __future__ import annotations

import os

import click
from twisted.plugin import IPlugin, getPlugins

import twisted.plugins
from sockservices.cli.errors import CouldNot
from sockservices.printable import system_reason


@click.command()
def refresh() -> None:
    """Build Twisted's plugin cache anew.

    For image builds and packages: a plugin file that is older than the cache beside it (as image
    layers and clamped file times make it) hides its commands, and can break every twistd.
    """
    folders = [folder for folder in twisted.plugins.__path__ if os.path.isdir(folder)]
    for folder in folders:
        cache = os.path.join(folder, "dropin.cache")
        try:
            os.remove(cache)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise CouldNot(f"cannot renew {cache}: {system_reason(error)}") from None
    count = len(list(getPlugins(IPlugin)))
    missing = [
        folder
        for folder in folders
        if os.listdir(folder) and not os.path.exists(os.path.join(folder, "dropin.cache"))
    ]
    if missing:
        raise CouldNot(f"cannot write dropin.cache in {missing[0]}: is it writable?")
    click.echo(f"{count} plugins cached in {', '.join(folders)}")
