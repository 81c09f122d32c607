"""What may plug in to a host: a group of settings, and what acts on them in a running host."""

from __future__ import annotations

from typing import Any

from sockservices.settings import Settings


class Part(Settings):
    """A group of settings that a host takes, such as ``Limits``; an ``attrs`` class, frozen."""

    def objection(self, listener: Any) -> str | None:
        """Return why a listener cannot go with these settings; ``None`` if it can."""
        return None
