from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from sockservices.transports.credentials import Credentials, credentials_of


def test_our_own() -> None:
    one, other = socket.socketpair()
    with one, other:
        expected = Credentials(os.getuid(), frozenset([os.getgid(), *os.getgroups()]))
        assert credentials_of(one) == expected


_CONNECT = """
import os, socket, sys
os.setgroups(range(1000, 1000 + int(sys.argv[2])))
os.setgid(4321)
os.setuid(3_000_000_000)
client = socket.socket(socket.AF_UNIX)
client.connect(sys.argv[1])
client.recv(1)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize(("count", "told"), [(0, 0), (2, 2), (256, 256), (257, 0)])
def test_another_processs_and_all_its_groups(count: int, told: int, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"\0sockservices-{os.getpid()}")
        listening.listen()
        name = "\0" + os.fsdecode(listening.getsockname()[1:])
        code = _CONNECT.replace("sys.argv[1]", repr(name))
        with subprocess.Popen([sys.executable, "-c", code, "", str(count)]) as process:
            connection, _address = listening.accept()
            with connection:
                found = credentials_of(connection)
            process.wait()
    # Nobody has that name, so that of too many groups nothing can be looked up.
    assert found == Credentials(3_000_000_000, frozenset([4321, *range(1000, 1000 + told)]))
