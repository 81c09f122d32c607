from __future__ import annotations

import attrs
import pytest

from sockservices.testing.failures import ContractError, Rule

RULE = Rule("doors are shut at night", "turn the key")


def test_an_error_says_the_rule_the_input_what_was_seen_and_how_to_mend_it() -> None:
    error = ContractError(RULE, "the door was open", "b'midnight'")
    lines = [line.split(":", 1) for line in str(error).strip().splitlines()]
    assert [value.strip() for _label, value in lines] == [
        "doors are shut at night",
        "b'midnight'",
        "the door was open",
        "turn the key",
    ]
    assert (error.rule, error.what, error.given) == (RULE, "the door was open", "b'midnight'")


def test_to_a_test_runner_it_is_a_failure_and_not_an_error() -> None:
    assert issubclass(ContractError, AssertionError)


def test_rules_are_the_same_by_their_words_and_never_change() -> None:
    assert Rule("doors are shut at night", "turn the key") == RULE
    assert Rule("doors are shut at night", "call somebody") != RULE
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        RULE.text = "doors are open"  # type: ignore[misc]
