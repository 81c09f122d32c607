"""A service's options: declared once, as the constructor arguments of its factory.

What an embedder passes to the constructor and what ``twistd`` offers is one list. Factories are
``attrs`` classes whose fields are made by ``option``; of any other class the arguments of
``__init__``, with their defaults and types, are taken.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs

from sockservices.converters import whole_number, yes_or_no
from sockservices.printable import escaped, system_reason

_HELP = "help"


class OptionError(ValueError):
    """An option that is unknown or missing, or has a value that it cannot take; one line."""


def option(
    *,
    help: str,  # noqa: A002 - the word that every option parser uses
    default: Any = attrs.NOTHING,
    converter: Callable[[Any], Any] | None = None,
) -> Any:
    """Declare one field of an ``attrs`` class as an option.

    Parameters:
        help: one sentence for ``--help``: what it does, and in which unit.
        default: the value when it is not given; without one the option is required.
        converter: takes the text of the command line, or a value, and returns the value;
            raises ``ValueError`` with a line that says what would be right.
    """
    return attrs.field(default=default, converter=converter, metadata={_HELP: help}, kw_only=True)


@attrs.frozen
class DeclaredOption:
    """One constructor argument, as an operator sees it."""

    argument: str
    help: str
    default: Any  # attrs.NOTHING: required
    type: Any
    converter: Callable[[Any], Any] | None

    @property
    def name(self) -> str:
        """The name on a command line, without the leading dashes."""
        return self.argument.replace("_", "-")

    @property
    def is_flag(self) -> bool:
        """Whether it stands alone: a ``bool`` that is off unless it is given."""
        return self.type is bool and self.default is False

    def described(self) -> str:
        """Return the help text, with the default, or that there is none."""
        if self.default is attrs.NOTHING:
            return f"{self.help} [required]".strip()
        if self.is_flag or self.default is None or hasattr(self.default, "factory"):
            return self.help
        default = str(self.default).encode("unicode_escape").decode("ascii")
        return f"{self.help} [default: {default}]".strip()

    def value(self, text: str) -> Any:
        """Return what to pass to the constructor for this text; raise ``OptionError``."""
        try:
            if self.converter is not None:
                # The constructor runs it as well, so the text goes on as it is.
                self.converter(text)
                return text
            return _TEXT_TO.get(self.type, str)(text)
        except ValueError as error:
            raise OptionError(f"--{self.name}: {error}") from None
        except Exception as error:
            raise OptionError(f"--{self.name}: {text!r}: {type(error).__name__}: {error}") from None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number") from None


_TEXT_TO: dict[Any, Callable[[str], Any]] = {
    bool: yes_or_no,
    int: whole_number(),
    float: _number,
    Path: Path,
    bytes: lambda text: text.encode("utf-8", "surrogateescape"),
}


def declared_options(factory: Callable[..., Any]) -> list[DeclaredOption]:
    """Read the options that a factory declares, in the order of its constructor arguments."""
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):  # written in C, or no callable at all
        return []
    fields = _attrs_fields(factory)
    made = _made_defaults(factory)
    declared = []
    for name, parameter in parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        field = fields.get(name)
        default = attrs.NOTHING if parameter.default is parameter.empty else parameter.default
        if field is not None:
            default = field.default
        elif name in made:
            default = attrs.Factory(made[name])
        annotation = field.type if field is not None else parameter.annotation
        declared.append(
            DeclaredOption(
                argument=name,
                help=field.metadata.get(_HELP, "") if field is not None else "",
                default=default,
                type=_plain(_resolved(annotation, factory)),
                converter=_converter(field),
            )
        )
    return declared


def build(factory: Callable[..., Any], texts: Mapping[str, str]) -> Any:
    """Call a factory with options given as text, by their command-line names.

    Raises ``OptionError`` for a name that is not declared, a value that cannot be taken, a
    required option that is missing, and for whatever the factory itself raises.
    """
    declared = {each.name: each for each in declared_options(factory)}
    named = getattr(factory, "__qualname__", repr(factory))
    arguments = {}
    for name, text in texts.items():
        if name not in declared:
            has = ", ".join(declared) or "none"
            raise OptionError(f"{named} has no option {name!r}; it has: {has}")
        arguments[declared[name].argument] = declared[name].value(text)
    missing = [
        f"--{each.name}"
        for each in declared.values()
        if each.default is attrs.NOTHING and each.argument not in arguments
    ]
    if missing:
        raise OptionError(f"{named} needs {', '.join(missing)}")
    try:
        return factory(**arguments)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        reason = f"{escaped(where)}{system_reason(error)}"
        raise OptionError(f"{named} could not be built: {reason}") from error
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else "no reason given"
        raise OptionError(
            f"{named} could not be built: {type(error).__name__}: {reason}"
        ) from error


def _attrs_fields(factory: Callable[..., Any]) -> dict[str, attrs.Attribute[Any]]:
    if not (isinstance(factory, type) and attrs.has(factory)):
        return {}
    return {field.alias: field for field in attrs.fields(factory) if field.init}


def _made_defaults(factory: Callable[..., Any]) -> dict[str, Callable[[], Any]]:
    """Return what makes the defaults of a dataclass that have to be made."""
    if not (isinstance(factory, type) and dataclasses.is_dataclass(factory)):
        return {}
    return {
        field.name: field.default_factory
        for field in dataclasses.fields(factory)
        if field.default_factory is not dataclasses.MISSING
    }


def _resolved(annotation: Any, factory: Callable[..., Any]) -> Any:
    """Return the type that an annotation means; the text of one that only a checker can see."""
    if not isinstance(annotation, str):
        return annotation
    owner = sys.modules.get(getattr(factory, "__module__", ""))
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    try:
        return typing.get_type_hints(holder, vars(owner) if owner is not None else {})["it"]
    except Exception:  # whatever the expression raises
        return annotation


def _converter(field: attrs.Attribute[Any] | None) -> Callable[[Any], Any] | None:
    if field is None or field.converter is None or isinstance(field.converter, attrs.Converter):
        return None
    return field.converter


def _plain(annotation: Any) -> Any:
    """Of ``int | None`` the ``int``."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        kinds = [kind for kind in typing.get_args(annotation) if kind is not type(None)]
        if len(kinds) == 1:
            return kinds[0]
    return annotation
