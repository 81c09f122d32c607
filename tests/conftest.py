"""How tests run here: in how many processes, what takes long first, without a clock in verdicts."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from sockservices.testing.processes import default_signals

settings.register_profile("sockservices", deadline=None, database=None, max_examples=60)
settings.register_profile("quick", settings.get_profile("sockservices"), max_examples=15)
settings.load_profile("sockservices")


def pytest_xdist_auto_num_workers() -> int:
    """Two for each core, because the tests wait more than they compute."""
    return min(2 * len(os.sched_getaffinity(0)), 4)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes a minute: at the end one worker would wait for it."""
    items.sort(key=lambda item: item.get_closest_marker("takes_a_minute") is None)


@pytest.fixture(scope="session", autouse=True)
def _default_signals() -> Iterator[None]:
    """Start all processes under test with default signals, also under nohup(1)."""
    with default_signals():
        yield
