from __future__ import annotations

import resource
import subprocess
import sys

import pytest
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


@pytest.mark.parametrize("closed", [(0,), (2,), (0, 1, 2)])
def test_closed_standard_ones_are_opened_and_others_stay_as_they_are(
    closed: tuple[int, ...],
) -> None:
    code = f"""
import os
from sockservices.process.file_descriptors import open_standard_ones

kept, other = os.dup(1), os.open("/", os.O_RDONLY)
for fd in {closed}:
    os.close(fd)
open_standard_ones()
assert os.open("/", os.O_RDONLY) > other
null = os.stat(os.devnull)
opened = tuple(fd for fd in range(3) if os.path.samestat(os.fstat(fd), null))
os.write(kept, str(opened).encode())
"""
    ended = subprocess.run(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        capture_output=True,
        check=True,
    )
    assert ended.stdout.decode() == str(closed)
