"""A server under test: starting it on its core, waiting until it answers, stopping it."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.entries import Entry
from benchmarks.failures import MachineError, MeasurementError

PATIENCE = 10.0  # seconds within which a server must answer its first client


def cores() -> tuple[int, int]:
    """Return the core for servers and the core for loads.

    :raises MachineError: there is only one core.
    """
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        raise MachineError("the benchmarks need two cores, one for the server and one for the load")
    return usable[0], usable[1]


def prepare() -> None:
    """Move this process, and so its loads, to their core; raise the file descriptor limit."""
    os.sched_setaffinity(0, {cores()[1]})
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextlib.contextmanager
def on_core(core: int) -> Iterator[None]:
    """Start processes on a core; a child inherits the affinity, before it can count its cores."""
    mine = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, mine)


class Server:
    """One running server.

    :ivar started: the start time, in seconds of the monotonic clock.
    :ivar answered: the time when its first client had been served.
    """

    def __init__(self, entry: Entry, serves: str, folder: Path, core: int) -> None:
        self.serves = serves
        self.port = _free_port()
        self.path = folder / "socket"
        self._stderr = folder / "stderr"
        self._log = folder / "log"
        places = {"port": self.port, "path": self.path, "log": self._log}
        command = [part.format(**places) for part in entry.commands[serves]()]
        target = Path(os.devnull) if entry.dumps_to_stderr else self._stderr
        try:
            with target.open("wb") as stderr, on_core(core):
                self.started = time.monotonic()
                self.process = subprocess.Popen(
                    command,
                    cwd=folder,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=stderr,
                )
        except OSError as error:
            raise MeasurementError(f"could not be started: {error}") from error
        self.answered = 0.0

    def wait_until_it_answers(self) -> None:
        """Wait until a client has been served: a server that listens may not accept yet.

        :raises MeasurementError: the server exited, or did not answer in time.
        """
        while not self._answers():
            self.check()
            if time.monotonic() - self.started > PATIENCE:
                words = self._last_words()
                raise MeasurementError(f"did not answer within {PATIENCE:.0f} s{words}")
            time.sleep(0.0005)
        self.answered = time.monotonic()
        self.check()

    def _answers(self) -> bool:
        try:
            if self.serves == "datagram":
                with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
                    client.connect(str(self.path))
                return True
            with socket.create_connection(("127.0.0.1", self.port), PATIENCE) as client:
                if self.serves != "hello":
                    client.sendall(b"x")
                return bool(client.recv(64))
        except OSError:
            return False

    def check(self, patience: float = 0.0) -> None:
        """Check that the server is still running.

        :param patience: seconds to wait for its exit, if there are signs of it.

        :raises MeasurementError: it exited; the error has its status and the last line it wrote.
        """
        with contextlib.suppress(subprocess.TimeoutExpired):
            status = self.process.wait(patience)
            raise MeasurementError(f"the server exited with status {status}{self._last_words()}")

    def _last_words(self) -> str:
        for file in (self._stderr, self._log):
            lines = file.read_text(errors="replace").split("\n") if file.exists() else []
            said = [line.strip() for line in lines if line.strip()]
            if said:
                return f": {said[-1]}"
        return ""

    @property
    def cpu_seconds(self) -> float:
        """The CPU time of its process, with threads that have ended: clock_getcpuclockid(3)."""
        return time.clock_gettime((~self.process.pid) << 3 | 2)

    @property
    def resident_kib(self) -> int:
        """The resident memory, from smaps_rollup, which is exact while VmRSS lags behind."""
        for line in Path(f"/proc/{self.process.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Rss:"):
                return int(line.split()[1])
        raise MeasurementError("cannot read its resident memory")

    def end(self) -> None:
        """Stop the server, gracefully if possible."""
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextlib.contextmanager
def running(entry: Entry, serves: str, folder: Path, core: int) -> Iterator[Server]:
    """Run a server that answers, in an empty directory, for the length of a block.

    :raises MeasurementError: the server does not start, or does not answer.
    """
    server = Server(entry, serves, folder, core)
    try:
        server.wait_until_it_answers()
        yield server
    finally:
        server.end()


def _free_port() -> int:
    # Below the ephemeral ports, so that no connection of the load can have it.
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket() as probe:
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port
