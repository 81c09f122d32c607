from __future__ import annotations

import pytest

from sockservices.suggestions import did_you_mean

NAMES = ["port", "socket", "max-connections", "max-per-source", "allow-user"]


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("prot", "port"),
        ("max_connections", "max-connections"),
        ("connections", "max-connections"),
        ("Socket", "socket"),
    ],
)
def test_the_most_similar_name_is_suggested(word: str, name: str) -> None:
    assert did_you_mean(word, NAMES) == f"; did you mean {name}?"
    assert did_you_mean(word, NAMES, "--") == f"; did you mean --{name}?"


@pytest.mark.parametrize("word", ["", "x", "colour"])
def test_without_a_similar_name_there_is_no_suggestion(word: str) -> None:
    assert did_you_mean(word, NAMES) == ""
