"""How Hypothesis runs here: with no clock in its verdicts, and leaving nothing behind."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("sockservices", deadline=None, database=None, max_examples=60)
settings.register_profile("quick", settings.get_profile("sockservices"), max_examples=15)
settings.load_profile("sockservices")
