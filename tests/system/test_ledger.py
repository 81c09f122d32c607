"""After many connections of all kinds nothing is left of them but the totals."""

from __future__ import annotations

import json
import os
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.system.processes import BIN, PATIENCE, Running, read_all

# An app that embeds an echo, and tells its books whenever a line comes in.
APP = """
import gc, json, os, sys
from sockservices import EchoFactory, SocketService, Closed, Opened
if sys.argv[1] == "eager":
    from sockservices.eager import install
    install()
from twisted.internet import reactor
from twisted.internet.stdio import StandardIO
from twisted.protocols.basic import LineReceiver

service = SocketService(
    EchoFactory(), listen=["tcp:0:interface=127.0.0.1"], stock_transports=sys.argv[1] == "stock"
)
events = {"Opened": 0, "Closed": 0}

def count(event):
    events[type(event).__name__] += 1

service.ledger.subscribe(count)

class Books(LineReceiver):
    delimiter = b"\\n"

    def lineReceived(self, line):
        gc.collect()
        totals = service.ledger.totals
        with open("/proc/self/statm") as file:
            resident = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        self.sendLine(json.dumps({
            "live": service.ledger.live, "opened": totals.opened, "closed": totals.closed,
            "in": totals.bytes_in, "out": totals.bytes_out, "events": events,
            "descriptors": len(os.listdir("/proc/self/fd")), "resident": resident,
        }).encode())

StandardIO(Books())
service.startService()
service.when_listening().addCallback(lambda found: print(found[0].port, flush=True))
reactor.run()
"""


class Clients:
    """Visits of all kinds, and what they have seen."""

    def __init__(self, port: int, seed: int) -> None:
        self._port = port
        self._random = random.Random(seed)
        self.seen: Counter[str] = Counter()
        self._lock = threading.Lock()

    def _count(self, **what: int) -> None:
        with self._lock:
            self.seen.update(what)

    def polite(self, client: socket.socket) -> None:
        client.sendall(b"p" * 5000)
        got = b""
        while len(got) < 5000:
            got += client.recv(5000)
        self._count(sent=5000, received=5000)

    def half_closing(self, client: socket.socket) -> None:
        client.sendall(b"h" * 3000)
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b"h" * 3000
        self._count(sent=3000, received=3000)

    def resetting(self, client: socket.socket) -> None:
        client.sendall(b"r" * 100)
        assert client.recv(100, socket.MSG_WAITALL) == b"r" * 100
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._count(sent=100, received=100, reset=1)

    def never_writing(self, client: socket.socket) -> None:
        client.shutdown(socket.SHUT_RD)

    def never_reading(self, client: socket.socket) -> None:
        client.setblocking(False)
        try:
            while True:
                client.send(b"n" * 10_000)
        except BlockingIOError:
            return

    def visit(self, count: int, kinds: list[Callable[[socket.socket], None]]) -> None:
        def several() -> None:
            for _ in range(count // 10):
                with socket.create_connection(("127.0.0.1", self._port), PATIENCE) as client:
                    self._random.choice(kinds)(client)
                self._count(visits=1)

        threads = [threading.Thread(target=several) for _ in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize("kind", ["default", "eager", "stock"])
def test_nothing_is_left_but_the_totals(tmp_path: Path, kind: str) -> None:
    (tmp_path / "app.py").write_text(APP)
    read_end, write_end = os.pipe()
    with (
        Running([BIN / "python", "app.py", kind], tmp_path, stdin=read_end) as app,
        os.fdopen(write_end, "wb", buffering=0) as lines,
    ):
        os.close(read_end)
        port = int(app.out.wait_for(r"^(\d+)\n")[1])
        asked = 0

        def books() -> dict[str, Any]:
            nonlocal asked
            asked += 1
            lines.write(b"?\n")
            text = app.out.wait_for(rf"^\d+\n(?:.*\n){{{asked - 1}}}(.*)\n")[1]
            found: dict[str, Any] = json.loads(text)
            return found

        def books_when_all_have_left() -> dict[str, Any]:
            while (found := books())["live"]:
                pass
            return found

        # What can be counted on both sides:
        counting = Clients(port, seed=1)
        counting.visit(500, [counting.polite, counting.half_closing, counting.resetting])
        after = books_when_all_have_left()
        seen = counting.seen
        assert (after["opened"], sum(after["closed"].values())) == (seen["visits"], seen["visits"])
        assert (after["in"], after["out"]) == (seen["sent"], seen["received"])
        # Of a reset that comes at the same time as data the kernel may tell the end only.
        assert 0 < after["closed"]["lost"] <= seen["reset"]
        assert after["events"] == {"Opened": seen["visits"], "Closed": seen["visits"]}
        # And the unruly, twice: what the first ones leave the second may use.
        for seed in (2, 3):
            before = after
            mixed = Clients(port, seed)
            mixed.visit(
                1000,
                [
                    *(mixed.polite, mixed.half_closing, mixed.resetting),
                    *(mixed.never_writing, mixed.never_reading),
                ],
            )
            after = books_when_all_have_left()
            assert after["opened"] - before["opened"] == mixed.seen["visits"] == 1000
        assert after["descriptors"] == before["descriptors"]
        assert after["resident"] < before["resident"] * 1.05
        assert after["events"] == {"Opened": 2500, "Closed": 2500}
        app.stop()
        assert "Traceback" not in app.err.text
