"""Checks that refuse arguments of a host that are invalid or have no effect."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sockservices.connections.parts import Part
from sockservices.errors import ArgumentName, DescriptionError, SettingError
from sockservices.listening import Listener
from sockservices.service import is_datagram_protocol
from sockservices.settings import Settings, settings_of


def by_kind(parts: Iterable[Any]) -> dict[type[Part], Any]:
    """Return parts by type; raise ``TypeError`` for an object that is not one, or for two."""
    found: dict[type[Part], Part] = {}
    for each in parts:
        if not isinstance(each, Part):
            raise TypeError(f"{each!r} is not a part of a host, such as Limits()")
        if type(each) in found:
            raise TypeError(f"{type(each).__name__} is given twice")
        found[type(each)] = each
    return found


def check_kinds(
    name: str, listeners: Sequence[Listener], factory: Any, build_datagram: Any, datagram: Any
) -> None:
    """Raise ``DescriptionError`` for a listener of a kind that the service does not serve.

    Parameters:
        name: the name of the service.
        listeners: its listeners.
        factory: the factory for streams, or ``None``.
        build_datagram: builds the protocol of a datagram listener, or ``None``.
        datagram: the argument that was given for datagrams.
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


def check_use(
    name: str,
    listeners: Sequence[Listener],
    parts: Iterable[Part],
    others: Iterable[Settings] = (),
) -> None:
    """Refuse settings that have no effect here, because their user relies on them.

    Parameters:
        name: the name of the service.
        listeners: its listeners.
        parts: its parts.
        others: settings that are no part's.

    Raises ``DescriptionError`` for a listener that cannot be used with a part, and
    ``SettingError`` for a setting that applies only to kinds of listeners that are not present.
    """
    parts = list(parts)
    for part in parts:
        for each in listeners:
            objection = part.objection(each)
            if objection is not None:
                raise DescriptionError(f"{each.description!r} {objection}")
    for group in (*others, *parts):
        for setting in settings_of(type(group)):
            kind = setting.listener
            is_given = setting.is_given(getattr(group, setting.argument))
            if kind and is_given and not any(each.is_a(kind) for each in listeners):
                needs = f" goes with a {kind} listener, and {name} has none"
                raise SettingError(ArgumentName(setting.argument), needs)


def check_unchanged(before: Settings, after: Settings) -> None:
    """Raise ``SettingError`` for a changed setting that cannot change while the service runs."""
    for setting in settings_of(type(before)):
        name = setting.argument
        if not setting.is_changeable and getattr(after, name) != getattr(before, name):
            raise SettingError(ArgumentName(name), " cannot change while the service runs")
