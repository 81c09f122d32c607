"""What a contract takes for its factory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.protocol import Factory

from sockservices import EchoFactory
from sockservices.testing import ContractError, StreamServiceContract, rules

BYTES = "test_no_input_raises_an_exception"


def make_echo(report: bool = False) -> EchoFactory:
    return EchoFactory(report=report)


class ByClass(StreamServiceContract):
    factory: Callable[[], Any] = EchoFactory


class ByFunction(StreamServiceContract):
    factory = make_echo


class ByMethod(StreamServiceContract):
    report = True

    def factory(self) -> EchoFactory:
        return EchoFactory(report=self.report)


@pytest.mark.parametrize("contract", [ByClass, ByFunction, ByMethod])
def test_a_class_a_function_or_a_method(contract: type[Any]) -> None:
    getattr(contract(), BYTES)()


class Faulty(Factory):
    def __init__(self, needed: int) -> None:
        self.needed = needed


def test_one_that_cannot_be_built_breaks_no_other_rule() -> None:
    class Contract(StreamServiceContract):
        factory: Any = Faulty

    with pytest.raises(ContractError) as caught:
        getattr(Contract(), BYTES)()
    assert caught.value.rule == rules.BUILDING
    assert caught.value.given == "Faulty()"
    assert "needed" in caught.value.what
