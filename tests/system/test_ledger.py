"""After many connections of all kinds nothing is left of them but the totals."""

from __future__ import annotations

import json
import os
import random
import socket
import struct
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from tests.system.processes import BIN, PATIENCE, Running, read_all

# An app that embeds an echo, and tells its books whenever a line comes in.
APP = """
import ctypes, gc, json, os, sys
from sockservices import EchoFactory, Listening, SocketService, Closed, Opened
if sys.argv[1] == "eager":
    from sockservices.transports import install
    install()
from twisted.internet import reactor
from twisted.internet.stdio import StandardIO
from twisted.protocols.basic import LineReceiver

libc = ctypes.CDLL(None)
listen = [f"tcp:0:interface=127.0.0.{number}" for number in (1, 2)]
listening = Listening(listen=listen, stock_transports=sys.argv[1] == "stock")
service = SocketService(EchoFactory(), listening)
events = {"Opened": 0, "Closed": 0}
bytes_at = {each: [0, 0] for each in listen}

def count(event):
    events[type(event).__name__] += 1
    if isinstance(event, Closed):
        bytes_at[event.connection.listener][0] += event.connection.bytes_in
        bytes_at[event.connection.listener][1] += event.connection.bytes_out

service.ledger.subscribe(count)

class Books(LineReceiver):
    delimiter = b"\\n"

    def lineReceived(self, line):
        gc.collect()
        libc.malloc_trim(0)  # what is free is not used, wherever it lies
        totals = service.ledger.totals
        with open("/proc/self/statm") as file:
            resident = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        self.sendLine(json.dumps({
            "live": service.ledger.live, "opened": totals.opened, "closed": totals.closed,
            "in": totals.bytes_in, "out": totals.bytes_out, "events": events,
            "bytes": list(bytes_at.values()),
            "descriptors": len(os.listdir("/proc/self/fd")), "resident": resident,
        }).encode())

StandardIO(Books())
service.startService()
service.when_listening().addCallback(
    lambda found: print(*[each.port for each in found], flush=True)
)
reactor.run()
"""


Visit: TypeAlias = Callable[[socket.socket], None]


class Clients:
    """Visits of all kinds, and what they have seen."""

    def __init__(self, address: tuple[str, int], seed: int) -> None:
        self._address = address
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

    def visit(self, count: int, kinds: list[Visit], seconds: float = 0) -> None:
        """Let ten make so many visits, spread over so many seconds; the last ones linger."""
        begun = time.monotonic()

        def several() -> None:
            lingering: deque[socket.socket] = deque()
            for number in range(count // 10):
                time.sleep(max(0.0, begun + seconds * number / (count // 10) - time.monotonic()))
                client = socket.create_connection(self._address, PATIENCE)
                self._random.choice(kinds)(client)
                self._count(visits=1)
                lingering.append(client)
                if len(lingering) > 5:
                    lingering.popleft().close()
            for client in lingering:
                client.close()

        threads = [threading.Thread(target=several) for _ in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


class App(Running):
    """The app above, and its books."""

    def __init__(self, folder: Path, kind: str) -> None:
        (folder / "app.py").write_text(APP)
        read_end, write_end = os.pipe()
        self._lines = os.fdopen(write_end, "wb", buffering=0)
        super().__init__([BIN / "python", "app.py", kind], folder, stdin=read_end)
        os.close(read_end)
        ports = self.out.wait_for(r"^(\d+) (\d+)\n")
        self.addresses = [("127.0.0.1", int(ports[1])), ("127.0.0.2", int(ports[2]))]
        self._asked = 0

    def books(self) -> dict[str, Any]:
        self._asked += 1
        self._lines.write(b"?\n")
        text = self.out.wait_for(rf"^\d+ \d+\n(?:.*\n){{{self._asked - 1}}}(.*)\n")[1]
        found: dict[str, Any] = json.loads(text)
        return found

    def books_when_all_have_left(self) -> dict[str, Any]:
        while (found := self.books())["live"]:
            pass
        return found

    def stop(self) -> int:
        self._lines.close()
        return super().stop()


def _visits(clients: Clients) -> tuple[list[Visit], list[Visit]]:
    """Those whose bytes both sides can count, and the unruly."""
    return (
        [clients.polite, clients.half_closing, clients.resetting],
        [clients.never_writing, clients.never_reading],
    )


def _has_what_they_have(books: dict[str, Any], ruly: Clients, visits: int) -> None:
    seen = ruly.seen
    assert (books["opened"], sum(books["closed"].values())) == (visits, visits)
    assert books["events"] == {"Opened": visits, "Closed": visits}
    assert books["bytes"][0] == [seen["sent"], seen["received"]]
    assert books["in"] == sum(each[0] for each in books["bytes"])
    assert books["out"] == sum(each[1] for each in books["bytes"])
    # Of a reset that comes at the same time as data the kernel may tell the end only.
    assert books["closed"]["lost"] > 0


@pytest.mark.parametrize("kind", ["default", "eager", "stock"])
def test_nothing_is_left_but_the_totals(tmp_path: Path, kind: str) -> None:
    with App(tmp_path, kind) as app:
        ruly, unruly = (Clients(address, seed) for seed, address in enumerate(app.addresses))
        after: dict[str, Any] = {}
        for number in (1, 2, 3):
            ruly.visit(500, _visits(ruly)[0])
            unruly.visit(300, _visits(unruly)[1])
            before, after = after, app.books_when_all_have_left()
            _has_what_they_have(after, ruly, number * 800)
        assert after["descriptors"] == before["descriptors"]
        assert after["resident"] < before["resident"] * 1.05
        app.stop()
        assert "Traceback" not in app.err.text


@pytest.mark.takes_a_minute
def test_10_000_connections_leave_nothing(tmp_path: Path) -> None:
    with App(tmp_path, "default") as app:
        ruly, unruly = (Clients(address, seed) for seed, address in enumerate(app.addresses))
        after: dict[str, Any] = {}
        for seconds, count in ((0, 1000), (30, 10_000)):
            both = [
                threading.Thread(target=clients.visit, args=(count * part // 10, kinds, seconds))
                for clients, part, kinds in (
                    (ruly, 6, _visits(ruly)[0]),
                    (unruly, 4, _visits(unruly)[1]),
                )
            ]
            for thread in both:
                thread.start()
            for thread in both:
                thread.join()
            before, after = after, app.books_when_all_have_left()
        _has_what_they_have(after, ruly, 11_000)
        assert after["descriptors"] == before["descriptors"]
        assert after["resident"] < before["resident"] * 1.05
        app.stop()
        assert "Traceback" not in app.err.text
