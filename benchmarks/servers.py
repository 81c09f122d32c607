"""A server under test: starting it on its core, waiting until it answers, stopping it."""

from __future__ import annotations

import contextlib
import functools
import os
import random
import resource
import select
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.entries import Entry
from benchmarks.failures import MachineError, MeasurementError
from benchmarks.workloads import Workload

PATIENCE = 10.0  # seconds within which a server must answer its first client
STOPPING = 20.0  # seconds within which it must end


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

    def __init__(self, entry: Entry, workload: Workload, folder: Path, core: int) -> None:
        self.serves = workload.serves
        self._silent_first = workload.silent_first
        self.port = _free_port()
        self.path = folder / "socket"
        self._stderr = folder / "stderr"
        self._log = folder / "log"
        places = {"port": self.port, "path": self.path, "log": self._log}
        places |= {"python": entry.runtime.python, "twistd": entry.runtime.twistd}
        if self.serves == "tls":
            places["certificate"] = _certificate(folder)
        command = [part.format(**places) for part in entry.commands[self.serves]()]
        target = Path(os.devnull) if entry.dumps_to_stderr else self._stderr
        try:
            with target.open("wb") as stderr, on_core(core):
                self.started = time.monotonic()
                self.process = subprocess.Popen(
                    command,
                    cwd=folder,
                    env={**os.environ, **entry.environment},
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
            if self.serves in ("udp", "sink"):
                return self._takes_datagrams()
            if self._silent_first:
                self._connected().close()
                self._silent_first = False
            with self._connected() as client:
                if self.serves != "hello":
                    client.sendall(b"x")
                return bool(client.recv(64))
        except OSError:
            return False

    def _connected(self) -> socket.socket:
        if self.serves == "unix":
            client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                client.settimeout(PATIENCE)
                client.connect(str(self.path))
            except OSError:
                client.close()
                raise
            return client
        client = socket.create_connection(("127.0.0.1", self.port), PATIENCE)
        return _unverified().wrap_socket(client) if self.serves == "tls" else client

    def _takes_datagrams(self) -> bool:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.connect(("127.0.0.1", self.port))
            client.send(b"x")
            if self.serves == "udp":
                client.settimeout(1)
                return bool(client.recv(64))
            # Nothing answers: if the port is not bound, this raises ECONNREFUSED.
            client.send(b"x")
            return True

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

    def stop(self) -> float:
        """Send SIGTERM, and return the seconds until the process has ended.

        :raises MeasurementError: it did not end in time.
        """
        # Popen.wait with a timeout looks only every 50 milliseconds.
        ended = os.pidfd_open(self.process.pid)
        try:
            began = time.monotonic()
            self.process.terminate()
            if not select.select([ended], [], [], STOPPING)[0]:
                raise MeasurementError(f"did not end within {STOPPING:.0f} s of SIGTERM")
            return time.monotonic() - began
        finally:
            os.close(ended)

    def end(self) -> None:
        """Stop the server, gracefully if possible."""
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextlib.contextmanager
def running(entry: Entry, workload: Workload, folder: Path, core: int) -> Iterator[Server]:
    """Run a server that answers, in an empty directory, for the length of a block.

    :raises MeasurementError: the server does not start, or does not answer.
    """
    server = Server(entry, workload, folder, core)
    try:
        server.wait_until_it_answers()
        yield server
    finally:
        server.end()


def _certificate(folder: Path) -> Path:
    """Make a certificate with its key, of the kind that most servers have today."""
    path = folder / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-keyout", str(path), "-out", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MeasurementError(f"openssl could not make a certificate: {done.stderr.strip()}")
    return path


@functools.cache
def _unverified() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _free_port() -> int:
    # Below the ephemeral ports, so that no connection of the load can have it.
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket() as stream, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
            with contextlib.suppress(OSError):
                stream.bind(("127.0.0.1", port))
                datagrams.bind(("127.0.0.1", port))
                return port
