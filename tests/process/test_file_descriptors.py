from __future__ import annotations

import resource

from twisted.internet.selectreactor import SelectReactor
from twisted.internet.task import Clock

from sockservices.process.file_descriptors import raise_limit


def test_the_soft_limit_becomes_the_hard_one_but_not_for_select() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    hard = before[1]
    try:
        for soft in (256, 1023, 1024, hard):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            raise_limit(SelectReactor.__new__(SelectReactor))
            assert resource.getrlimit(resource.RLIMIT_NOFILE) == (min(soft, 1024), hard)
        raise_limit(Clock())
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
