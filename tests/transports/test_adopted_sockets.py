from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted  # type: ignore[import-untyped]
from twisted.internet import reactor as _reactor
from twisted.internet.defer import maybeDeferred

from sockservices import HelloFactory
from sockservices.transports import with_streams

reactor: Any = _reactor


@pytest.mark.parametrize("eager", [True, False])
@pytest_twisted.ensureDeferred  # type: ignore[untyped-decorator]
async def test_a_unix_socket_stays_as_its_owner_made_it(eager: bool, tmp_path: Path) -> None:
    path = tmp_path / "s"
    streams = with_streams(reactor, eager=eager)
    with socket.socket(socket.AF_UNIX) as owned, socket.socket(socket.AF_UNIX) as later:
        owned.bind(str(path))
        path.chmod(0o640)
        owned.listen()
        owned.setblocking(False)
        made = path.stat()
        for _ in range(2):
            port = streams.adoptStreamPort(owned.fileno(), socket.AF_UNIX, HelloFactory())
            assert port.getHost().name == os.fsencode(path)
            assert path.stat() == made
            await maybeDeferred(port.stopListening)
        assert path.stat() == made
        later.connect(str(path))  # nobody has shut it down
        with owned.accept()[0] as accepted:
            later.sendall(b"x")
            assert accepted.recv(1) == b"x"
