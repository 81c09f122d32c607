from __future__ import annotations

import resource

from twisted.internet.selectreactor import SelectReactor
from twisted.internet.task import Clock

from sockservices.process.file_descriptors import raise_limit


def test_the_soft_limit_becomes_the_hard_one() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
        raise_limit(SelectReactor.__new__(SelectReactor))  # select(2) knows 1024
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (256, before[1])
        raise_limit(Clock())
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
