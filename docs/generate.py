"""The tables of the reference, made from the code, so that they say what it says.

The pages in ``reference/`` include them; ``conf.py`` has them written when the site is built.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import attrs
import click
from twisted.application.service import IServiceMaker
from zope.interface.interface import InterfaceClass, Method

import sockservices
from sockservices.cli.main import command
from sockservices.connections.ledger import REASONS
from sockservices.logs import FIELDS
from sockservices.settings import Setting, settings_of
from sockservices.twistd.options import GROUPS
from twisted.plugins import sockservices as plugins

_SOURCE = Path(sockservices.__file__).parent


def options() -> str:
    """Return the settings of every service, by group, and of each of ours its own."""
    parts = []
    for maker in _service_makers():
        own = [(f"`{option}`", text) for option, text in maker.options().own_rows()]
        parts += [f"## `{maker.tapname}`", maker.description]
        parts.append(_table(("option", "what it does"), own) if own else "It has no options.")
    for group in GROUPS:
        parts += [f"## {group.heading}", inspect.getdoc(group) or ""]
        parts.append(_settings_table(settings_of(group)))
    return _page(parts)


def _service_makers() -> list[Any]:
    found = [each for each in vars(plugins).values() if IServiceMaker.providedBy(each)]
    return [each for each in found if each.tapname != "sock"]  # which has others' services


def _settings_table(settings: Iterable[Setting]) -> str:
    rows = []
    for each in settings:
        text = re.sub(r"(?<!\S)--[a-z0-9-]+", r"`\g<0>`", each.help)
        notes = [text]
        if each.is_repeated:
            notes.append("Can be repeated.")
        if not each.is_changeable:
            notes.append("Cannot change while the service runs.")
        default = "required" if each.default is attrs.NOTHING else each.shown_default
        rows.append((f"`{each.option}`", " ".join(notes), default and f"`{default}`"))
    return _table(("option", "what it does", "default"), rows)


def commands() -> str:
    """Return the subcommands of ``sockservices``."""
    parts = []
    for name, subcommand in sorted(command.commands.items()):
        context = click.Context(subcommand, info_name=f"sockservices {name}")
        usage = " ".join(["sockservices", name, *subcommand.collect_usage_pieces(context)])
        records = [each.get_help_record(context) for each in subcommand.params]
        rows = [(f"`{option}`", text) for option, text in filter(None, records)]
        parts += [
            f"## `sockservices {name}`",
            _fenced("text", [usage]),
            inspect.cleandoc(subcommand.help or ""),
            _table(("option", "what it does"), rows) if rows else "",
        ]
    return _page(parts)


class LogEvent(NamedTuple):
    """One place where something is logged."""

    module: str
    level: str
    text: str
    fields: tuple[str, ...]


_LEVELS = ("debug", "info", "warn", "error", "critical", "failure")


def log_events() -> list[LogEvent]:
    """Find every event that the package logs."""
    return sorted(
        (event for path in sources() for event in _log_events_in(path)), key=lambda each: each.text
    )


def sources() -> list[Path]:
    """Return the files of the package; the templates of new projects are none."""
    return [
        path
        for path in sorted(_SOURCE.rglob("*.py"))
        if "project" not in path.relative_to(_SOURCE).parts
    ]


def _log_events_in(path: Path) -> Iterator[LogEvent]:
    module = ".".join(path.relative_to(_SOURCE.parent).with_suffix("").parts)
    for node in ast.walk(ast.parse(path.read_text())):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        logger, level = ast.unparse(node.func.value), node.func.attr
        if not (level in _LEVELS and logger.endswith("_log")):
            continue
        text = ast.literal_eval(node.args[0])
        fields = tuple(each.arg for each in node.keywords if each.arg is not None)
        yield LogEvent(module, level, text, fields)


def events() -> str:
    """Return what is logged."""
    shown = {"failure": "critical, with a traceback"}
    return _table(
        ("event", "level", "module"),
        [
            (f"`{each.text}`", shown.get(each.level, each.level), f"`{each.module}`")
            for each in log_events()
        ],
    )


def fields() -> str:
    """Return the fields of what is logged."""
    return _table(
        ("field", "what it is"), [(f"`{name}`", text) for name, text in sorted(FIELDS.items())]
    )


def reasons() -> str:
    """Return the reasons of closed and refused connections."""
    return _table(
        ("reason", "what happened"), [(f"`{reason}`", text) for reason, text in REASONS.items()]
    )


def interfaces() -> str:
    """Return the public interfaces: they are zope's, and no classes for autodoc."""
    found = [getattr(sockservices, name) for name in sockservices.__all__]
    return _page(_interface(each) for each in found if isinstance(each, InterfaceClass))


def _interface(interface: InterfaceClass) -> str:
    lines = [
        f".. py:class:: sockservices.{interface.__name__}",
        f"   :canonical: {interface.__module__}.{interface.__name__}",
        "",
        _indented(_docstring(interface)),
    ]
    for name, what in sorted(interface.namesAndDescriptions()):
        is_method = isinstance(what, Method)
        signature = what.getSignatureString() if is_method else ""
        lines += ["", f"   .. py:{'method' if is_method else 'attribute'}:: {name}{signature}", ""]
        lines.append(_indented(_indented(_docstring(what))))
    return _fenced("{eval-rst}", lines)


def fixtures() -> str:
    """Return the fixtures of pytest: they are objects of pytest's, and no functions for autodoc."""
    tree = ast.parse((_SOURCE / "testing/fixtures.py").read_text())
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    return _page(_fixture(node.name, ast.get_docstring(node) or "") for node in functions)


def _fixture(name: str, text: str) -> str:
    return _fenced("{eval-rst}", [f".. py:data:: {name}", "", _indented(text)])


def rooms() -> str:
    """Return the floors: the rooms of each, with their laws."""
    project = (_SOURCE.parent / "pyproject.toml").read_text()
    [layers] = re.findall(r"^layers = (\[.*?^\])", project, re.DOTALL | re.MULTILINE)
    rows = [
        (f"`{room}{'/' if (_SOURCE / room).is_dir() else '.py'}`", _purpose(room))
        for floor in ast.literal_eval(layers)
        for room in floor.split(" | ")
    ]
    return _table(("room", "what it is for"), rows)


def _purpose(room: str) -> str:
    path = _SOURCE / room
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    return " ".join(text.partition("\n\n")[0].split())


def _docstring(thing: Any) -> str:
    from sphinx.ext.napoleon.docstring import GoogleDocstring  # the tests have no Sphinx

    return str(GoogleDocstring(inspect.cleandoc(thing.getDoc() or "")))


def _page(parts: Iterable[str]) -> str:
    return "\n\n".join(filter(None, parts))


def _fenced(language: str, lines: Iterable[str]) -> str:
    return "\n".join([f"```{language}", *lines, "```"])


def _table(head: Sequence[str], rows: Iterable[Sequence[str | None]]) -> str:
    cells = [head, ["---"] * len(head), *rows]
    escaped = [[(cell or "").replace("|", "\\|") for cell in row] for row in cells]
    return "\n".join(f"| {' | '.join(row)} |" for row in escaped)


def _indented(text: str) -> str:
    return textwrap.indent(text, "   ")


_GENERATED: tuple[Callable[[], str], ...] = (
    options,
    commands,
    events,
    fields,
    reasons,
    interfaces,
    fixtures,
    rooms,
)


def write(folder: Path) -> None:
    """Write them into a folder, made when missing, and nothing else is left there."""
    folder.mkdir(exist_ok=True)
    made = {f"{make.__name__}.md" for make in _GENERATED}
    for path in folder.iterdir():
        if path.name not in made:
            path.unlink()
    for make in _GENERATED:
        path, text = folder / f"{make.__name__}.md", make() + "\n"
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
