from __future__ import annotations

from sockservices.accepting import Gate


class Port:
    def __init__(self) -> None:
        self.told: list[str] = []

    def startReading(self) -> None:  # noqa: N802 - as IReadDescriptor's ports call it
        self.told.append("start")

    def stopReading(self) -> None:  # noqa: N802 - as IReadDescriptor's ports call it
        self.told.append("stop")


def test_it_opens_when_the_last_reason_is_gone() -> None:
    gate, port = Gate(), Port()
    gate.add(port)
    assert port.told == []
    gate.close("full")
    gate.close("suspended")
    gate.close("full")
    assert port.told == ["stop"]
    gate.open("full")
    gate.open("full")
    assert (port.told, gate.is_closed_for("suspended")) == (["stop"], True)
    gate.open("suspended")
    assert (port.told, gate.is_closed_for("suspended")) == (["stop", "start"], False)


def test_a_port_that_comes_late_waits_too_and_one_that_went_is_left_alone() -> None:
    gate, early, late = Gate(), Port(), Port()
    gate.add(early)
    gate.close("full")
    gate.add(late)
    gate.discard(early)
    gate.discard(early)
    gate.open("full")
    assert (early.told, late.told) == (["stop"], ["stop", "start"])


def test_a_port_that_does_not_know_how_keeps_no_other_from_it() -> None:
    gate, port = Gate(), Port()
    gate.add(object())
    gate.add(port)
    gate.close("full")
    gate.open("full")
    assert port.told == ["stop", "start"]
