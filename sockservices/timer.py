"""Delayed calls of a reactor."""

from __future__ import annotations

from typing import Any


def cancel(call: Any) -> None:
    """Cancel an ``IDelayedCall``, if there is one, and if it has not been made or cancelled."""
    if call is not None and call.active():
        call.cancel()
