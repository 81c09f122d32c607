"""The process's limit of file descriptors, raised at the start."""

from __future__ import annotations

import resource
from typing import Any


def raise_limit(reactor: Any) -> None:
    """Raise the soft limit of descriptors to the hard one: getrlimit(2).

    Not for a reactor that stands on select(2), which knows no descriptor above 1023.
    """
    if type(reactor).__name__ == "SelectReactor":
        return
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
