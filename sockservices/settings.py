"""Settings, each declared once as a constructor argument.

A service declares its settings as arguments of its factory. The framework declares its own in
groups such as ``Limits`` and ``Timeouts``. This one declaration provides the argument that an
embedder passes, the command-line option with its help, the environment variable, the row in the
reference, and the checks. This module does not know any setting by name.

``attrs`` classes declare settings with ``setting``. Any other class or function declares them by
its arguments, with their defaults and types.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
import types
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import attrs

from sockservices.converters import number, separated, whole_number, yes_or_no
from sockservices.errors import ArgumentName, SettingError
from sockservices.mistakes import described
from sockservices.printable import escaped, system_reason

_DECLARED = "sockservices.settings"


class Settings:
    """A group of the framework's settings: a frozen ``attrs`` class in the module that uses it."""

    heading: ClassVar[str]
    """The heading of the group in ``--help`` and in the reference."""


def setting(
    *,
    help: str,  # noqa: A002 - the name that every option parser uses
    default: Any = attrs.NOTHING,
    converter: Callable[[Any], Any] | None = None,
    unit: str | None = None,
    repeated: bool = False,
    needs: str | Sequence[str] = (),
    listener: str | None = None,
    kind: str | None = None,
    changeable: bool = True,
) -> Any:
    """Declare one field of an ``attrs`` class as a setting.

    Parameters:
        help: a sentence for ``--help`` and the reference that says what it does.
        default: the value if none is given; without a default the setting is required.
        converter: takes text or a value, and returns the value; raises ``ValueError`` with a
            line that says what is valid. It is not called for a default of ``None``.
        unit: a word for its value in ``--help``, such as ``seconds``, ``bytes`` or ``path``; by
            default it depends on the type.
        repeated: whether it can be given several times. The value is then a tuple, empty by
            default, and the converter takes one item.
        needs: the argument that this setting requires, or several, of which it requires one. It
            is refused if it is given (is not its default) without any of them.
        listener: the kind of listener that it applies to, if not to all: ``stream``, ``TCP``,
            ``Unix stream``, ``Unix path``, ``datagram`` or ``UDP``. A host without such a listener
            refuses it.
        kind: the kind of service, ``stream`` or ``datagram``, whose help it is in, if it has no
            effect on the other and is not refused there; by default that of ``listener``.
        changeable: whether it can change while the service runs.
    """
    if repeated and default is attrs.NOTHING:
        default = ()
    convert = converter
    if repeated:
        convert = _each(converter or _as_it_is)
    elif converter is not None and default is None:
        convert = attrs.converters.optional(converter)
    declared = Setting(
        argument="",  # set when it is read from the class
        help=help,
        default=default,
        type=None,
        converter=convert,
        unit=unit or "",
        is_repeated=repeated,
        needs=(needs,) if isinstance(needs, str) else tuple(needs),
        listener=listener,
        kind=kind or _KIND_OF_LISTENER.get(listener or ""),
        is_changeable=changeable,
    )
    return attrs.field(
        default=default,
        converter=_naming(convert) if convert is not None else None,
        validator=_check_company if declared.needs else None,
        metadata={_DECLARED: declared},
        kw_only=True,
    )


_KIND_OF_LISTENER = {
    "stream": "stream",
    "TCP": "stream",
    "Unix stream": "stream",
    "datagram": "datagram",
    "UDP": "datagram",
}


def of_use(settings: Iterable[Setting], kinds: Collection[str]) -> list[Setting]:
    """Return the settings that have an effect on a service of these kinds."""
    settings = list(settings)
    useless = {each.argument for each in settings if each.kind and each.kind not in kinds}
    return [
        each
        for each in settings
        if each.argument not in useless and not (each.needs and useless.issuperset(each.needs))
    ]


def _as_it_is(value: Any) -> Any:
    return value


def _each(convert: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, ...]]:
    def convert_each(values: Any) -> tuple[Any, ...]:
        # Not every iterable: a network is one of its addresses.
        are_several = isinstance(values, (list, tuple, set, frozenset, Iterator))
        return tuple(map(convert, values if are_several else [values]))

    return convert_each


def _naming(convert: Callable[[Any], Any]) -> Any:
    """Return a converter whose errors name the argument."""

    def convert_naming(value: Any, field: attrs.Attribute[Any]) -> Any:
        try:
            return convert(value)
        except Exception as error:  # of any kind, for a value of a wrong type
            raise SettingError(ArgumentName(str(field.alias)), f": {error}") from None

    return attrs.Converter(convert_naming, takes_field=True)


def _check_company(instance: Any, field: attrs.Attribute[Any], value: Any) -> None:
    """Refuse a setting that has no effect without others, because its user relies on it."""
    by_argument = {each.argument: each for each in settings_of(type(instance))}
    name = str(field.alias)
    needs = by_argument[name].needs
    if not by_argument[name].is_given(value):
        return
    if not any(by_argument[other].is_given(getattr(instance, other)) for other in needs):
        others = [part for other in needs for part in (" or ", ArgumentName(other))][1:]
        raise SettingError(ArgumentName(name), " goes with ", *others)


@attrs.frozen
class Setting:
    """The declaration of one setting."""

    argument: str
    help: str
    default: Any  # attrs.NOTHING if it is required
    type: Any
    converter: Callable[[Any], Any] | None
    unit: str
    is_repeated: bool = False
    needs: tuple[str, ...] = ()
    listener: str | None = None
    kind: str | None = None
    is_changeable: bool = True

    @property
    def name(self) -> str:
        """Its name on the command line, without the leading dashes."""
        return self.argument.replace("_", "-")

    @property
    def is_flag(self) -> bool:
        """Whether it takes no value, because it is a ``bool`` that is off by default."""
        return self.type is bool and self.default is False

    @property
    def option(self) -> str:
        """Its form in ``--help``, such as ``--port=NUMBER``."""
        return f"--{self.name}" if self.is_flag else f"--{self.name}={self.unit.upper()}"

    @property
    def shown_default(self) -> str | None:
        """Its default as shown in ``--help``, or ``None`` if there is nothing to show."""
        default = self.default
        if default is attrs.NOTHING or default is None or default == ():
            return None
        if self.is_flag or hasattr(default, "factory"):
            return None
        shown = " ".join(map(str, default)) if self.is_repeated else str(default)
        return shown.encode("unicode_escape").decode("ascii")

    def described(self) -> str:
        """Return the help text with notes, such as the default or that it is required."""
        notes = []
        if self.default is attrs.NOTHING:
            notes.append("[required]")
        if self.is_repeated:
            notes.append("Can be repeated.")
        if self.shown_default is not None:
            notes.append(f"[default: {self.shown_default}]")
        return " ".join([self.help, *notes]).strip()

    def is_given(self, value: Any) -> bool:
        """Return whether a value differs from the default."""
        default = self.default
        if self.converter is not None and default is not None:
            default = self.converter(default)
        return bool(value != default)

    def taken(self, given: Any) -> Any:
        """Return the constructor argument for a text, or for several texts if it is repeated.

        Raises ``SettingError``.
        """
        convert = self.converter
        try:
            if convert is not None:
                # The constructor converts it as well, so pass it on unchanged.
                convert(given)
                return given
            return given if self.is_repeated else _TEXT_TO.get(self.type, str)(given)
        except ValueError as error:
            raise SettingError(ArgumentName(self.argument), f": {error}") from None
        except Exception as error:
            reason = f": {given!r}: {described(error)}"
            raise SettingError(ArgumentName(self.argument), reason) from error


_TEXT_TO: dict[Any, Callable[[str], Any]] = {
    bool: yes_or_no,
    int: whole_number(),
    float: number,
    Path: Path,
    bytes: lambda text: text.encode("utf-8", "surrogateescape"),
}
_UNITS: dict[Any, str] = {int: "number", float: "number", Path: "path", bool: "yes|no"}


def settings_of(factory: Callable[..., Any]) -> list[Setting]:
    """Read the settings that a factory declares, in the order of its constructor arguments."""
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):  # written in C, or not callable
        return []
    fields = _attrs_fields(factory)
    made = _made_defaults(factory)
    found = []
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
        kind = _plain(_resolved(annotation, factory))
        found.append(_setting(name, kind, default, field))
    return found


def returned_by(function: Callable[..., Any]) -> Any:
    """Return the type that a function's annotation says it returns, or ``None``."""
    try:
        annotation = inspect.signature(function).return_annotation
    except (TypeError, ValueError):  # written in C
        return None
    return None if annotation is inspect.Signature.empty else _resolved(annotation, function)


def _setting(name: str, kind: Any, default: Any, field: attrs.Attribute[Any] | None) -> Setting:
    declared: Setting | None = field.metadata.get(_DECLARED) if field is not None else None
    unit = _UNITS.get(kind, "text")
    if declared is None:
        converter: Any = field.converter if field is not None else None
        takes_value_alone = not isinstance(converter, attrs.Converter)
        return Setting(name, "", default, kind, converter if takes_value_alone else None, unit)
    return attrs.evolve(declared, argument=name, type=kind, unit=declared.unit or unit)


def _attrs_fields(factory: Callable[..., Any]) -> dict[str, attrs.Attribute[Any]]:
    if not (isinstance(factory, type) and attrs.has(factory)):
        return {}
    return {field.alias: field for field in attrs.fields(factory) if field.init}


def _made_defaults(factory: Callable[..., Any]) -> dict[str, Callable[[], Any]]:
    """Return the default factories of a dataclass."""
    if not (isinstance(factory, type) and dataclasses.is_dataclass(factory)):
        return {}
    return {
        field.name: field.default_factory
        for field in dataclasses.fields(factory)
        if field.default_factory is not dataclasses.MISSING
    }


def _resolved(annotation: Any, factory: Callable[..., Any]) -> Any:
    """Return the type of an annotation, or its text if it cannot be evaluated."""
    if not isinstance(annotation, str):
        return annotation
    owner = sys.modules.get(getattr(factory, "__module__", ""))
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    try:
        return typing.get_type_hints(holder, vars(owner) if owner is not None else {})["it"]
    except Exception:  # the expression can raise anything
        return annotation


def _plain(annotation: Any) -> Any:
    """Return the ``int`` of ``int | None``."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        kinds = [kind for kind in typing.get_args(annotation) if kind is not type(None)]
        if len(kinds) == 1:
            return kinds[0]
    return annotation


# Sources of values


@attrs.frozen
class Source:
    """Values of settings from one source, such as the command line or the environment.

    Parameters:
        given: text by argument, or a list of texts for a repeated setting.
        spell: returns the name of an argument as that source spells it, for errors.
    """

    given: Mapping[str, Any]
    spell: Callable[[str], str]


def spelled_as_option(argument: str) -> str:
    """Return an argument as an option, such as ``--max-connections``."""
    return f"--{argument.replace('_', '-')}"


def variable(prefix: str, argument: str) -> str:
    """Return the name of an environment variable, such as ``SOCK_ECHO_MAX_CONNECTIONS``."""
    return re.sub(r"[^A-Z0-9]", "_", f"{prefix}_{argument}".upper())


def from_environment(
    settings: Iterable[Setting], prefix: str, environment: Mapping[str, str]
) -> Source:
    """Read settings from environment variables; an empty variable counts as not set.

    A variable can hold several values of a repeated setting, separated by blanks. Quote a value
    that contains blanks.

    Parameters:
        settings: the settings to look for.
        prefix: a name such as ``sock-echo``, for variables such as ``SOCK_ECHO_PORT``.
        environment: ``os.environ`` or a replacement.

    Raises ``SettingError`` if a quote is not closed.
    """
    given: dict[str, Any] = {}
    for each in settings:
        name = variable(prefix, each.argument)
        if text := environment.get(name):
            given[each.argument] = _separated(text, name) if each.is_repeated else text
    return Source(given, partial(variable, prefix))


def _separated(text: str, name: str) -> list[str]:
    try:
        return separated(text)
    except ValueError as error:
        raise SettingError(f"{name}: {error}") from None


def check(settings: Iterable[Setting], *sources: Source) -> None:
    """Raise ``SettingError``, with the name as its source spells it, for an invalid value."""
    _taken(settings, sources)


def _taken(settings: Iterable[Setting], sources: Sequence[Source]) -> dict[str, Any]:
    taken = {}
    for each in settings:
        source = _source_of(each.argument, sources)
        if source is not None:
            try:
                taken[each.argument] = each.taken(source.given[each.argument])
            except SettingError as error:
                raise SettingError(error.spelled(source.spell)) from error.__cause__
    return taken


def _source_of(argument: str, sources: Sequence[Source]) -> Source | None:
    return next((source for source in sources if argument in source.given), None)


def build(factory: Callable[..., Any], *sources: Source) -> Any:
    """Call a factory with its settings; if several sources have one, the first source wins.

    Names that the factory does not declare are ignored.

    Raises ``SettingError``, with names as their source spells them, for an invalid value, for
    missing required settings, and for any other exception that the factory raises.
    """

    def spell(argument: str) -> str:
        source = _source_of(argument, sources)
        return (source.spell if source is not None else spelled_as_option)(argument)

    named = getattr(factory, "__qualname__", repr(factory))
    settings = settings_of(factory)
    taken = _taken(settings, sources)
    required = [each.argument for each in settings if each.default is attrs.NOTHING]
    spell_missing = sources[0].spell if sources else spelled_as_option
    missing = [spell_missing(each) for each in required if each not in taken]
    if missing:
        raise SettingError(f"{named} needs {', '.join(missing)}")
    try:
        return factory(**taken)
    except SettingError as error:
        raise SettingError(error.spelled(spell)) from error.__cause__
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        reason = f"{escaped(where)}{system_reason(error)}"
        raise SettingError(f"{named} could not be built: {reason}") from error
    except Exception as error:
        raise SettingError(f"{named} could not be built: {described(error)}") from error
