"""The benchmarks, end to end, with servers that need nothing but this environment."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from benchmarks.building import load_generator, no_tls
from benchmarks.entries import ENTRIES, Entry
from benchmarks.measuring import Settings, measure
from benchmarks.servers import cores
from benchmarks.workloads import WORKLOADS
from tests.system.processes import needs, run

ROOT = Path(__file__).parent.parent.parent

pytestmark = [
    needs("cc"),
    pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is only one core"),
]


needs_tls = pytest.mark.skipif(no_tls() is not None, reason=str(no_tls()))


@pytest.mark.parametrize(("workload", "size"), [("echo-64", 64), ("lines", 2 * 20)])
def test_the_answers_of_ours_and_of_asyncio_are_counted(
    workload: str, size: int, tmp_path: Path
) -> None:
    command: list[str | Path] = [sys.executable, "-m", "benchmarks", "--output", tmp_path]
    command += ["--quick", "--rounds", "1", "--seconds", "0.5", "--workload", workload]
    done = run(*command, "--peer", "sockservices", "--peer", "asyncio", cwd=ROOT)
    assert done.returncode == 0, done.stderr.decode()
    text = (tmp_path / "latest.md").read_text()
    assert done.stdout.decode().strip() == text.strip()
    assert "| **sockservices** |" in text
    assert "| asyncio Protocol |" in text
    outcomes = json.loads((tmp_path / "latest.json").read_text())["workloads"][workload]
    assert list(outcomes) == ["sockservices", "asyncio"]
    for outcome in outcomes.values():
        (sample,) = outcome["samples"]
        assert sample["failure"] is None
        assert sample["report"]["operations"] > 0
        assert sample["report"]["bytes"] == sample["report"]["operations"] * size
        assert sample["report"]["errors"] == 0
        assert sample["report"]["server_cpu_us"] > 0
    assert (tmp_path / "latest.svg").read_text().startswith("<svg")


@pytest.mark.parametrize(
    ("name", "peer"),
    [
        ("unix-64", "twisted"),
        ("udp-64", "asyncio"),
        ("udp-flood", "asyncio"),
        ("used", "asyncio"),
        ("stop", "twisted"),
        pytest.param("tls-64", "twisted", marks=needs_tls),
        pytest.param("tls-stream", "asyncio", marks=needs_tls),
        pytest.param("tls-handshake", "asyncio", marks=needs_tls),
        pytest.param("tls-resumed", "twisted", marks=needs_tls),
    ],
)
def test_the_other_workloads_of_ours_and_of_a_peer(name: str, peer: str) -> None:
    (workload,) = (each for each in WORKLOADS if each.name == name)
    settings = Settings(load_generator(), cores()[0], seconds=0.2, warmup=0.1, idle=300)
    for entry in ENTRIES:
        if entry.name in ("sockservices", peer):
            sample = measure(workload, entry, settings)
            assert sample.failure is None
            assert sample.figure > 0
            if name.endswith("-64"):
                assert sample.report["bytes"] == 64 * sample.report["operations"]


def test_two_states_of_the_project_are_compared(tmp_path: Path) -> None:
    command: list[str | Path] = [sys.executable, "-m", "benchmarks", "--output", tmp_path]
    command += ["--quick", "--rounds", "1", "--against", "HEAD", "--workload", "start"]
    done = run(*command, cwd=ROOT)
    assert done.returncode == 0, done.stderr.decode()
    text = (tmp_path / "against.md").read_text()
    assert done.stdout.decode().strip() == text.strip()
    assert "1 rounds are too few for that" in text
    (line,) = (line for line in text.splitlines() if line.startswith("| `start`, sockservices | s"))
    assert line.endswith("| - |  |")  # no other value, and no failure
    assert "Nothing changed beyond the noise." in text


def test_a_commit_that_is_not_there_is_reported(tmp_path: Path) -> None:
    command: list[str | Path] = [sys.executable, "-m", "benchmarks", "--output", tmp_path]
    done = run(*command, "--against", "no-such-commit", cwd=ROOT)
    assert done.returncode == 1
    assert b"has no commit named 'no-such-commit'" in done.stderr
    assert done.stderr.count(b"\n") == 1


LOSES_SOME = """
import socket, sys
server = socket.socket(type=socket.SOCK_DGRAM)
server.bind(("127.0.0.1", int(sys.argv[1])))
for turn in range(10**9):
    data, peer = server.recvfrom(64)
    if turn % 100 != 99:
        server.sendto(data, peer)
"""
FORGETS_SESSIONS = """
import socket, ssl, sys
with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as server:
    while True:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)  # has new keys for its tickets
        context.load_cert_chain(sys.argv[2])
        try:
            with server.accept()[0] as plain, context.wrap_socket(plain, server_side=True) as peer:
                peer.sendall(peer.recv(64))
        except OSError:
            pass  # the load ended
"""
SERVER = """
import socketserver, sys
class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(65536):
            {}
class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 1024
Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
CHANGES_LONG_ONES = "self.request.sendall(data if len(data) < 9 else data[:-1] + b'?')"
ENDS_AT_LONG_ONES = "self.request.sendall(data) if len(data) < 9 else __import__('os')._exit(7)"
ANSWERS_ONCE = "self.request.sendall(data)"
CHANGES_THE_SECOND = "self.request.sendall(data + data[:-1] + b'?')"
ANSWERS_THRICE = "self.request.sendall(3 * data)"


@pytest.mark.parametrize(
    ("name", "program", "says"),
    [
        ("echo-64", "raise SystemExit('broken')", "exited with status 1: broken"),
        ("echo-64", SERVER.format(CHANGES_LONG_ONES), "other bytes came back"),
        ("echo-64", SERVER.format(ENDS_AT_LONG_ONES), "exited with status 7"),
        ("lines", SERVER.format(ANSWERS_ONCE), "no operation was"),
        ("lines", SERVER.format(CHANGES_THE_SECOND), "other bytes came back"),
        ("lines", SERVER.format(ANSWERS_THRICE), "other bytes came back"),
        ("udp-64", LOSES_SOME, "were not answered within a second"),
        pytest.param(
            "tls-resumed",
            FORGETS_SESSIONS,
            "the server did not resume the session",
            marks=needs_tls,
        ),
    ],
    ids=[
        "does not start",
        "answers wrongly",
        "dies under load",
        "a line too few",
        "another second line",
        "a line too many",
        "loses datagrams",
        "forgets sessions",
    ],
)
def test_a_server_that_fails_is_reported_with_the_reason(
    name: str, program: str, says: str
) -> None:
    (workload,) = (each for each in WORKLOADS if each.name == name)
    where = ["{port}", "{certificate}"] if workload.serves == "tls" else ["{port}"]
    command = [sys.executable, "-c", program, *where]
    entry = Entry("bad", "Bad", {workload.serves: lambda: command})
    settings = Settings(load_generator(), cores()[0], seconds=0.1, warmup=0.05, idle=1)
    failure = measure(workload, entry, settings).failure or ""
    assert says in failure
