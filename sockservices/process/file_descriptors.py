"""The process's limit of file descriptors."""

from __future__ import annotations

import resource
from typing import Any


def raise_limit(reactor: Any) -> None:
    """Raise the soft limit of file descriptors to the hard limit: getrlimit(2).

    Leave it for a reactor that uses select(2), which supports no file descriptor above 1023.
    """
    if type(reactor).__name__ == "SelectReactor":
        return
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
