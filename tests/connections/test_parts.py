from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest

from sockservices.connections.ledger import Ledger
from sockservices.connections.parts import Context, Part, RunningPart
from sockservices.errors import SettingError
from sockservices.settings import setting
from tests.fakes import context


@attrs.frozen
class Doors(Part):
    heading = "Doors"
    colour: str = setting(default="green", help="Paint them.")

    def begin(self, context: Context) -> RunningDoors:
        return RunningDoors(self, context)


class RunningDoors(RunningPart[Doors]):
    painted: str = ""

    def prepare(self, settings: Doors) -> str:
        if settings.colour == "none":
            raise SettingError("there is no such paint")
        return f"{settings.colour} paint"

    def apply(self, settings: Doors, prepared: str) -> None:
        super().apply(settings, prepared)
        self.painted = prepared


@pytest.fixture
def running() -> RunningDoors:
    return Doors().begin(context(Ledger("test")))


def test_a_part_is_prepared_and_in_force_as_soon_as_it_begins(running: RunningDoors) -> None:
    assert running.settings == Doors()
    assert running.painted == "green paint"
    assert running.context.service == "test"


def test_other_settings_are_in_force_when_all_are_ready_and_not_before(
    running: RunningDoors,
) -> None:
    put_in_force: Callable[[], None] = running.change(Doors(colour="red"))
    assert (running.settings.colour, running.painted) == ("green", "green paint")
    put_in_force()
    assert (running.settings.colour, running.painted) == ("red", "red paint")


def test_settings_that_cannot_be_used_change_nothing(running: RunningDoors) -> None:
    with pytest.raises(SettingError, match="no such paint"):
        running.change(Doors(colour="none"))
    assert (running.settings.colour, running.painted) == ("green", "green paint")
    with pytest.raises(SettingError, match="no such paint"):
        Doors(colour="none").begin(context(Ledger("test")))


def test_a_part_without_hooks_takes_part_in_nothing() -> None:
    settings = Part()
    running: RunningPart[Any] = RunningPart(settings, context(Ledger("test")))
    hooks = [
        *(running.ask_socket, running.ask_peer, running.ask_datagram, running.layer),
        *(running.header, running.entered, running.waiting, running.opened, running.closed),
    ]
    assert set(hooks) == {None}
    assert running.files is None
    assert running.settings is settings


def test_a_part_goes_with_every_listener_unless_it_objects() -> None:
    assert Part().objection(object()) is None


def test_settings_alone_cannot_run() -> None:
    with pytest.raises(NotImplementedError):
        Part().begin(context(Ledger("test")))
