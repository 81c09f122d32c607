"""How tests run here: Hypothesis with no clock in its verdicts, and what takes long first."""

from __future__ import annotations

import pytest
from hypothesis import settings

settings.register_profile("sockservices", deadline=None, database=None, max_examples=60)
settings.register_profile("quick", settings.get_profile("sockservices"), max_examples=15)
settings.load_profile("sockservices")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes a minute: at the end one worker would wait for it."""
    items.sort(key=lambda item: item.get_closest_marker("takes_a_minute") is None)
