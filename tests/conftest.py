"""How tests run here: no clock in Hypothesis's verdicts, default signals, what takes long first."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from sockservices.testing.processes import default_signals

settings.register_profile("sockservices", deadline=None, database=None, max_examples=60)
settings.register_profile("quick", settings.get_profile("sockservices"), max_examples=15)
settings.load_profile("sockservices")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes a minute: at the end one worker would wait for it."""
    items.sort(key=lambda item: item.get_closest_marker("takes_a_minute") is None)


@pytest.fixture(scope="session", autouse=True)
def _default_signals() -> Iterator[None]:
    """Start all processes under test with default signals, also under nohup(1)."""
    with default_signals():
        yield
