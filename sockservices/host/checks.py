"""What a host refuses to be given: whatever would do nothing, or cannot be, in one line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sockservices.connections.parts import Part
from sockservices.errors import ArgumentName, DescriptionError, SettingError
from sockservices.listening import Listener
from sockservices.service import is_datagram_protocol
from sockservices.settings import Settings, settings_of


def by_kind(parts: Iterable[Any]) -> dict[type[Part], Any]:
    """Return parts by their kind; raise ``TypeError`` for what is none, or given twice."""
    found: dict[type[Part], Part] = {}
    for each in parts:
        if not isinstance(each, Part):
            raise TypeError(f"{each!r} is no part of a host, as Limits() is")
        if type(each) in found:
            raise TypeError(f"{type(each).__name__} is given twice")
        found[type(each)] = each
    return found


def check_kinds(
    name: str, listeners: Sequence[Listener], factory: Any, build_datagram: Any, datagram: Any
) -> None:
    """Raise ``DescriptionError`` for a listener that the service has nothing for.

    Parameters:
        name: what the service is called.
        listeners: where it is to listen.
        factory: what serves streams, if anything does.
        build_datagram: what makes the protocols of datagram listeners, if anything does.
        datagram: what was given for datagrams.
    """
    for each in listeners:
        if each.kind == "datagram" and build_datagram is None:
            raise DescriptionError(
                f"{name} serves streams only; {each.description!r} is for datagrams"
            )
        if each.kind == "stream" and factory is None:
            raise DescriptionError(
                f"{name} serves datagrams only; {each.description!r} is for streams"
            )
    datagrams = sum(each.kind == "datagram" for each in listeners)
    if datagrams > 1 and is_datagram_protocol(datagram) and not isinstance(datagram, type):
        raise DescriptionError(
            f"one {type(datagram).__name__} object can have one listener, not {datagrams}: "
            "pass its class"
        )


def check_use(name: str, listeners: Sequence[Listener], parts: Iterable[Part]) -> None:
    """Refuse what would do nothing here: whoever gives it relies on it.

    Raises ``DescriptionError`` for a listener that cannot go with a part, and ``SettingError`` for
    a setting that goes with a kind of listener that there is not.
    """
    parts = list(parts)
    for part in parts:
        for each in listeners:
            objection = part.objection(each)
            if objection is not None:
                raise DescriptionError(f"{each.description!r} {objection}")
    for part in parts:
        for setting in settings_of(type(part)):
            kind = setting.listener
            is_given = setting.is_given(getattr(part, setting.argument))
            if kind and is_given and not any(each.is_a(kind) for each in listeners):
                needs = f" goes with a {kind} listener, and {name} has none"
                raise SettingError(ArgumentName(setting.argument), needs)


def check_unchanged(before: Settings, after: Settings) -> None:
    """Raise ``SettingError`` for a setting that differs and cannot change while it runs."""
    for setting in settings_of(type(before)):
        name = setting.argument
        if not setting.is_changeable and getattr(after, name) != getattr(before, name):
            raise SettingError(ArgumentName(name), " cannot change while the service runs")
