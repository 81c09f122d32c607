from __future__ import annotations

from typing import Any

import attrs
import pytest
from twisted.internet.protocol import DatagramProtocol, Factory
from twisted.internet.testing import MemoryReactorClock

from sockservices.connections.limits import Limits
from sockservices.connections.parts import Part
from sockservices.connections.timeouts import Timeouts
from sockservices.errors import DescriptionError, SettingError
from sockservices.host.checks import by_kind, check_kinds, check_unchanged, check_use
from sockservices.listening import Listener, Listening, listener
from sockservices.settings import setting


def _listeners(*descriptions: str) -> list[Listener]:
    return [listener(MemoryReactorClock(), each, Listening()) for each in descriptions]


@attrs.frozen
class Doors(Part):
    """Goes with TCP listeners alone, and with none at port 13."""

    heading = "Doors"
    width: int | None = setting(default=None, listener="TCP", help="As wide as this.")
    height: int | None = setting(default=None, changeable=False, help="As high as this.")

    def objection(self, listener: Any) -> str | None:
        return "has bad luck" if listener.description == "tcp:13" else None


def test_parts_are_found_by_their_kind() -> None:
    limits, timeouts = Limits(max_connections=1), Timeouts()
    assert by_kind([limits, timeouts]) == {Limits: limits, Timeouts: timeouts}
    assert by_kind([]) == {}


def test_what_is_no_part_or_comes_twice_is_refused() -> None:
    with pytest.raises(TypeError, match="7"):
        by_kind([Limits(), 7])
    with pytest.raises(TypeError, match="Limits"):
        by_kind([Limits(), Timeouts(), Limits(max_connections=1)])


@pytest.mark.parametrize(
    ("description", "factory", "datagram"),
    [("tcp:7", None, DatagramProtocol), ("udp:7", Factory(), None)],
)
def test_a_listener_that_the_service_has_nothing_for_is_refused(
    description: str, factory: Any, datagram: Any
) -> None:
    with pytest.raises(DescriptionError, match=f"'{description}'"):
        check_kinds("quiet", _listeners(description), factory, datagram, datagram)


def test_listeners_of_what_the_service_serves_are_taken() -> None:
    every = _listeners("tcp:7", "udp:7", "unix:/run/x", "udp:8")
    check_kinds("both", every, Factory(), DatagramProtocol, DatagramProtocol)
    check_kinds("none", [], None, None, None)


def test_a_protocol_that_is_built_can_have_one_listener() -> None:
    protocol = DatagramProtocol()
    check_kinds("one", _listeners("udp:7"), None, lambda: protocol, protocol)
    with pytest.raises(DescriptionError, match=r"DatagramProtocol .*3"):
        listeners = _listeners("udp:7", "udp:8", "udp:9")
        check_kinds("one", listeners, None, lambda: protocol, protocol)


def test_a_listener_that_a_part_objects_to_is_named_with_the_reason() -> None:
    check_use("house", _listeners("tcp:12"), [Doors()])
    with pytest.raises(DescriptionError, match=r"'tcp:13' has bad luck"):
        check_use("house", _listeners("tcp:12", "tcp:13"), [Limits(), Doors()])


@pytest.mark.parametrize("descriptions", [("unix:/run/x",), ("udp:7",), ("udp:7", "unix:/run/x")])
def test_a_setting_without_a_listener_that_it_acts_on_is_refused(
    descriptions: tuple[str, ...],
) -> None:
    with pytest.raises(SettingError, match=r"width.*TCP"):
        check_use("house", _listeners(*descriptions), [Doors(width=1)])
    check_use("house", _listeners(*descriptions), [Doors(height=1)])
    check_use("house", _listeners(*descriptions, "tcp:7"), [Doors(width=1)])


def test_what_can_change_while_it_runs_may_differ_and_nothing_else() -> None:
    check_unchanged(Doors(width=1, height=2), Doors(width=3, height=2))
    with pytest.raises(SettingError, match="height"):
        check_unchanged(Doors(height=1), Doors(height=2))
