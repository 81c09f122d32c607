"""The parts of a host: their settings can change, and their files can be read again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from sockservices.connections.parts import Context, Part, RunningPart, Steps
from sockservices.host.checks import by_kind, check_unchanged, check_use
from sockservices.listening import Listener, Listening
from sockservices.settings import Settings

_P = TypeVar("_P", bound=Part)


class RunningParts:
    """The running parts of a host, in the order in which they are asked.

    Parameters:
        given: the parts' settings, at most one object of each type.
        listening: the settings of the listeners, which cannot change.
        listeners: the listeners.
        context: the surroundings of the parts.
        changed: called when settings have changed.

    Raises ``DescriptionError`` and ``SettingError`` for settings that cannot be used here.
    """

    def __init__(
        self,
        given: Iterable[Part],
        listening: Listening,
        listeners: Sequence[Listener],
        context: Context,
        changed: Callable[[], None],
    ) -> None:
        self._listening = listening
        self._listeners = listeners
        self._context = context
        self._changed = changed
        self._is_started = False
        settings = by_kind(given)
        self._check_use(settings, listening)
        self._parts = {kind: part.begin(context) for kind, part in settings.items()}

    def _check_use(self, settings: dict[type[Part], Part], *others: Settings) -> None:
        check_use(self._context.service, self._listeners, settings.values(), others)

    def __iter__(self) -> Iterator[RunningPart[Any]]:
        return iter(self._parts.values())

    @property
    def settings(self) -> dict[type[Part], Part]:
        """The current settings by type."""
        return {kind: part.settings for kind, part in self._parts.items()}

    def current(self, kind: type[_P]) -> _P:
        """Return the current settings of one type."""
        settings: _P = self._parts[kind].settings
        return settings

    def start(self) -> None:
        """Start all, because the host starts."""
        self._is_started = True
        for part in self:
            part.start()

    def stop(self) -> None:
        """Stop all, because the host has stopped."""
        self._is_started = False
        for part in self:
            part.stop()

    def change(self, *groups: Settings) -> None:
        """Change settings; if one of them is not valid, change none.

        Raises ``SettingError`` for a setting that cannot change while the service runs or has no
        effect here, and for a file that cannot be used.
        """
        given = by_kind(each for each in groups if not isinstance(each, Listening))
        before: dict[type[Any], Settings] = {Listening: self._listening, **self.settings}
        for each in groups:
            check_unchanged(before.get(type(each), each), each)
        self._check_use(self.settings | given)
        added = [kind for kind in given if kind not in self._parts]
        ready = [self._parts[kind].change(given[kind]) for kind in given if kind not in added]
        running = {kind: given[kind].begin(self._context) for kind in added}
        try:
            for apply in ready:
                apply()
        finally:  # whatever was applied is in force
            self._parts |= running
            self._changed()
        for part in running.values() if self._is_started else ():
            part.start()

    def readings(self) -> list[tuple[str, Steps[None]]]:
        """Return what the parts have read from files, each as a word and the steps to read it."""
        return [(part.files, self._read(part)) for part in self if part.files is not None]

    def _read(self, part: RunningPart[Any]) -> Steps[None]:
        settings = None
        while settings is not part.settings:  # they may be changed meanwhile
            settings = part.settings
            apply = yield from part.change_in_steps(settings)
        try:
            apply()
        finally:
            self._changed()
