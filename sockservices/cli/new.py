"""``sockservices new``: create a project for a service, ready to run, test and publish."""

from __future__ import annotations

import importlib.util
import keyword
import os
import re
import shutil
import string
from collections.abc import Iterator
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import click
from twisted.application.service import IServiceMaker
from twisted.plugin import getPlugins

from sockservices.cli.errors import CouldNot
from sockservices.printable import escaped, system_reason
from sockservices.requirement import requirement
from sockservices.twistd.installed import service_entry_points

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable


_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_LONGEST = 60  # characters; file names, which have more than this name, are limited to 255 bytes
_OF_THE_PROJECT = ("build", "dist", "tests")  # directories that it has, or will have


class _Text(string.Template):
    delimiter = "@@"


@click.command()
@click.argument("name")
@click.option("--datagram", is_flag=True, help="Make a datagram service, not a stream service.")
@click.option(
    "--entry-point",
    is_flag=True,
    help="Declare it as an entry point (twistd -n sock NAME), not under twisted/plugins.",
)
def new(name: str, datagram: bool, entry_point: bool) -> None:
    """Create a project for a new service, in a new directory.

    NAME names the service's command, its package and the directory. The project is complete: it
    installs, its tests pass, twistd runs it, and python -m build makes a wheel of it.
    """
    _check(name)
    command = f"sock {name}" if entry_point else name
    words = {
        "name": name,
        "title": "".join(part.capitalize() for part in name.split("_")),
        "version": version("sockservices"),
        "kind": "datagram" if datagram else "stream",
        "command": command,
        "arguments": "".join(f'"{word}", ' for word in command.split()),
        "packages": f'"{name}"' if entry_point else f'"{name}", "twisted"',
        "requirement": _requirement(),
        **_notes_until_release(),
        "entry_points": _ENTRY_POINTS.format(name=name) if entry_point else "",
    }
    parts = ("common", words["kind"], "entry_point" if entry_point else "plugin")
    unfinished = Path(f".{name}.{os.getpid()}")
    try:
        for part in parts:
            for path, text in _texts(files("sockservices.cli") / "project" / part):
                target = unfinished / _Text(path).substitute(words)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(_Text(text).substitute(words))
        unfinished.rename(name)
    except OSError as error:
        raise CouldNot(f"{name}: {system_reason(error)}") from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    click.echo(
        f"{name}/ is there. Next:\n\n"
        f"    cd {name}\n"
        f"    python3 -m venv .venv && .venv/bin/pip install {_requirement()}-e '.[test]'\n"
        "    .venv/bin/pytest\n"
        f"    .venv/bin/twistd -n {command} --port 7000"
    )


def _requirement() -> str:
    """Return what pip needs for this package and a space, or nothing if the index has it."""
    return "" if requirement() == "sockservices" else f"{requirement()} "


def _notes_until_release() -> dict[str, str]:
    """Return notes for other machines, if this package was installed from a clone."""
    is_clone = _requirement() and " @ " not in _requirement()
    return {
        "readme_note": _README_NOTE.format(requirement()) if is_clone else "",
        "workflow_note": _WORKFLOW_NOTE if is_clone else "",
    }


_README_NOTE = """
sockservices has no release yet, so this installs it from its clone. On another machine, replace
`{}` by the path of a clone there.
"""
_WORKFLOW_NOTE = """
      # sockservices has no release yet. On another machine, replace the path of its clone by the
      # URL of its repository: 'sockservices @ git+https://...'."""


_ENTRY_POINTS = """
[project.entry-points."sockservices.services"]
{name} = "{name}.declaration:{name}"
"""


def _check(name: str) -> None:
    if not _NAME.fullmatch(name) or len(name) > _LONGEST:
        raise CouldNot(
            f"{escaped(name)!r} is not a usable package name: choose one like shout or my_chat, "
            f"of at most {_LONGEST} characters"
        )
    if keyword.iskeyword(name) or keyword.issoftkeyword(name):
        raise CouldNot(f"{name!r} is a Python keyword")
    if name in _OF_THE_PROJECT:
        raise CouldNot(f"{name!r} is a directory that every project has")
    commands = {maker.tapname for maker in getPlugins(IServiceMaker)}
    if name in commands | {entry_point.name for entry_point in service_entry_points()}:
        raise CouldNot(f"a service named {name!r} already exists")
    if importlib.util.find_spec(name) is not None:
        raise CouldNot(f"a module named {name!r} already exists: the new package would hide it")
    if Path(name).exists() or Path(name).is_symlink():
        raise CouldNot(f"{name} already exists; it was not changed")


def _texts(directory: Traversable, under: str = "") -> Iterator[tuple[str, str]]:
    """Yield the paths and texts of the files below a directory."""
    for each in directory.iterdir():
        if each.is_dir():
            if each.name != "__pycache__":
                yield from _texts(each, f"{under}{each.name}/")
        elif not each.name.endswith(".pyc"):
            yield f"{under}{each.name}", each.read_text("utf-8")
