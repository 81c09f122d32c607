"""Suggestions for a name that is almost right."""

from __future__ import annotations

from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str], prefix: str = "") -> str:
    """Return ``; did you mean NAME?`` for the most similar name, or an empty string.

    Parameters:
        word: what was given.
        known: the names that there are.
        prefix: comes before the name in the answer; it is no part of the names.
    """
    from difflib import get_close_matches  # only after an error

    found = get_close_matches(word, list(known), n=1)
    return f"; did you mean {prefix}{found[0]}?" if found else ""
