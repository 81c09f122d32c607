"""A process that has used up its descriptors."""

from __future__ import annotations

import gc
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    """Meanwhile no garbage is collected: descriptors would come free with it."""
    gc.collect()
    gc.disable()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    spare: list[int] = []
    try:
        highest = max(map(int, os.listdir("/proc/self/fd")))
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest, hard))
        with pytest.raises(OSError, match="Too many"):
            while True:
                spare.append(os.dup(0))
        yield
    finally:
        gc.enable()
        for descriptor in spare:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
