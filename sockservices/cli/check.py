"""``sockservices check``: find the faults of an installed service, and the rules it breaks."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import click

from sockservices.cli.errors import CouldNot
from sockservices.cli.listing import found
from sockservices.converters import name_and_value
from sockservices.errors import SettingError
from sockservices.mistakes import described, traceback_of
from sockservices.printable import Count, escaped
from sockservices.settings import Setting, Source, build, settings_of
from sockservices.twistd.declaration import LoadError, SocketServiceMaker
from sockservices.twistd.options import names_of_every_service

_PAIR = "OPTION=VALUE"


@click.command(short_help="Check an installed service.")
@click.argument("name")
@click.option(
    "--with",
    "given",
    multiple=True,
    metavar=_PAIR,
    help="Build the service with this option of its own. Can be repeated.",
)
def check(name: str, given: tuple[str, ...]) -> None:
    """Check an installed service: its declaration, and the rules that every service must follow.

    NAME is its command, as in twistd -n NAME, or the name of its entry point. The exit status is
    1 if anything is wrong.
    """
    try:
        maker = found(name)
    except CouldNot as error:
        _show_traceback(error)
        raise
    faults = list(_faults(maker))
    for fault in faults:
        click.echo(f"declaration: {fault}")
    if any(isinstance(fault, _NoService) for fault in faults):
        raise CouldNot(f"{name}: what it declares cannot be built")
    broken = list(_broken(maker, _pairs(given)))
    for text in broken:
        click.echo(text)
    count = Count(len(faults) + len(broken), "fault", "faults")
    if count:
        raise CouldNot(f"{name}: {count}")
    click.echo(f"{name}: nothing found")


def _show_traceback(error: Exception) -> None:
    """Show on standard error where an author's mistake is, if there is one."""
    click.echo(traceback_of(error) or "", err=True, nl=False)


def _pairs(given: tuple[str, ...]) -> dict[str, str]:
    try:
        return dict(name_and_value(text, _PAIR) for text in given)
    except ValueError as error:
        raise click.UsageError(f"--with: {error}") from None


class _NoService(str):
    """A fault that leaves no service to check against a contract."""


def _faults(maker: SocketServiceMaker) -> Iterator[str]:
    """Yield the faults of a declaration, one line each."""
    if not (maker.description or "").strip():
        yield "it has no description for twistd --help"
    yield from _imported_early(maker)
    declared: dict[str, Setting] = {}
    for kind in maker.kinds:
        try:
            factory = maker.builder(kind)
        except LoadError as error:
            _show_traceback(error)
            yield _NoService(error)
            continue
        declared.update({each.name: each for each in settings_of(factory)})
    taken = names_of_every_service()
    for each in declared.values():
        if not each.help:
            yield f"--{each.name} has no help text"
        if each.name in taken:
            yield f"--{each.name} is an option that every service has"


# Every twistd command has imported these modules before it reads a declaration.
_LOOK = """
import importlib, json, sys
import twisted.scripts.twistd, sockservices.twistd.declaration
before = set(sys.modules)
importlib.import_module(sys.argv[1])
print(json.dumps(sorted(set(sys.modules) - before)))
"""
_MOST_MODULES = 20  # that a declaration may import: its own package has some


def _imported_early(maker: SocketServiceMaker) -> Iterator[str]:
    """Yield a fault if the declaration's module imports what it should only name."""
    module = _module_of(maker)
    if module is None:
        return
    done = subprocess.run(
        [sys.executable, "-c", _LOOK, module], capture_output=True, text=True, check=False
    )
    if done.returncode:
        yield f"it cannot be imported on its own: {done.stderr.strip().splitlines()[-1]}"
        return
    imported: list[str] = json.loads(done.stdout.splitlines()[-1])
    services = {str(getattr(maker, kind)).rpartition(".")[0] for kind in maker.kinds}
    # Importing a module imports its packages too.
    services = {name for name in services if not f"{module}.".startswith(f"{name}.")}
    heavy = [name for name in imported if name in services | {"twisted.internet.reactor"}]
    if len(imported) > _MOST_MODULES:
        packages = Counter(name.partition(".")[0] for name in imported)
        largest = ", ".join(name for name, _ in packages.most_common(3))
        heavy.append(f"{len(imported)} modules, most of them of {largest}")
    if heavy:
        yield f"it imports {', '.join(heavy)} whenever twistd starts: use dotted names instead"


def _module_of(maker: SocketServiceMaker) -> str | None:
    for name, module in list(sys.modules.items()):
        if module is not None and any(value is maker for value in vars(module).values()):
            return name
    return None


def _broken(maker: SocketServiceMaker, given: dict[str, str]) -> Iterator[str]:
    """Check a service against its contracts; yield each broken rule, several lines each."""
    try:
        from sockservices.testing import (
            ContractError,
            DatagramServiceContract,
            StreamServiceContract,
        )
    except ImportError as error:
        raise CouldNot(str(error)) from None
    contracts = {"stream": StreamServiceContract, "datagram": DatagramServiceContract}
    tests: list[tuple[str, Callable[[], None]]] = []
    for kind in maker.kinds:
        factory = maker.builder(kind)
        make = partial(_made, factory, given)
        try:
            make()
        except SettingError as error:
            _show_traceback(error)
            raise CouldNot(f"{maker.tapname}: {error}") from None
        contract = type("Contract", (contracts[kind],), {"factory": staticmethod(make)})()
        for name in sorted(dir(contract)):
            if name.startswith("test_"):
                tests.append((f"{kind}: {name[5:].replace('_', ' ')}", getattr(contract, name)))
    with _quiet() as terminal:
        with click.progressbar(tests, label="rules", file=terminal) as bar:
            for name, test in bar:
                try:
                    test()
                except ContractError as error:
                    yield f"{name}{error}"
                except Exception as error:
                    yield f"{name}\n  {escaped(described(error))}"


def _made(factory: Any, given: dict[str, str]) -> Any:
    if not callable(factory):
        return factory
    return build(factory, Source(given, lambda argument: f"--with {argument}"))


@contextlib.contextmanager
def _quiet() -> Iterator[Any]:
    """Hide what a service prints meanwhile; yield a stream that still reaches the terminal."""
    sys.stdout.flush()
    kept = {number: os.dup(number) for number in (1, 2)}
    try:
        with open(os.devnull, "wb") as nowhere:
            for number in kept:
                os.dup2(nowhere.fileno(), number)
        with os.fdopen(os.dup(kept[2]), "w") as terminal:
            yield terminal
    finally:
        for number, descriptor in kept.items():
            os.dup2(descriptor, number)
            os.close(descriptor)
