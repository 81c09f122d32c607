"""Real processes for the tests: started, listened to, and always ended."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import pytest

from sockservices.converters import separated
from sockservices.testing.processes import Collected

BIN = Path(sys.executable).parent
PATIENCE = 30  # seconds until a test is given up; no test's verdict depends on it


def needs(program: str) -> pytest.MarkDecorator:
    """Skip, saying so, where a foreign program is not installed."""
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")


as_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root can become another user, make namespaces, and forge"
)


class Running:
    """One process. ``out`` and ``err`` collect what it writes."""

    def __init__(
        self,
        command: Sequence[str | Path],
        cwd: Path,
        stdin: int | IO[bytes] = subprocess.DEVNULL,
        stdout: int | IO[bytes] = subprocess.PIPE,
        env: dict[str, str] | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self.process = subprocess.Popen(
            [str(part) for part in command],
            cwd=cwd,
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.PIPE,
            env={**os.environ, **(env or {})},
            pass_fds=pass_fds,
        )
        assert self.process.stderr is not None
        self.err = Collected(self.process.stderr)
        if self.process.stdout is not None:
            self.out = Collected(self.process.stdout)

    def wait(self) -> int:
        """Wait for its end; return its status."""
        return self.process.wait(PATIENCE)

    def stop(self) -> int:
        """Ask it to end, as an operator does; return its status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.err.close()
        if self.process.stdout is not None:
            self.out.close()
        if self.process.stdin is not None and not self.process.stdin.closed:
            self.process.stdin.close()


TWISTD = (BIN / "twistd", "-n", "--logger=sockservices.to_stderr")


class Service(Running):
    """A service in the foreground, with its log on standard error. Waits until it listens.

    ``passed`` are sockets that it is to inherit, with their names.
    """

    def __init__(
        self,
        *arguments: str | Path,
        cwd: Path,
        stdout: int | IO[bytes] = subprocess.PIPE,
        env: dict[str, str] | None = None,
        passed: Sequence[tuple[str, socket.socket]] = (),
    ) -> None:
        pairs = [f"{name}={each.fileno()}" for name, each in passed]
        passing = (sys.executable, str(Path(__file__).with_name("passing.py")), *pairs, "--")
        super().__init__(
            [*(passing if passed else ()), *TWISTD, *arguments],
            cwd,
            stdout=stdout,
            env=env,
            pass_fds=[each.fileno() for _name, each in passed],
        )
        try:
            self.where = separated(self.err.wait_for(r"listening on (\S.*)\n")[1])
        except BaseException:
            self.__exit__(None, None, None)
            raise

    @property
    def port(self) -> int:
        """The port of the first TCP or UDP listener."""
        return next(int(each.rpartition(":")[2]) for each in self.where if each[:3] in _IP)

    def connect(self) -> socket.socket:
        """Return a TCP connection to it."""
        return socket.create_connection(("127.0.0.1", self.port), PATIENCE)

    def connect_datagrams(self) -> socket.socket:
        """Return a UDP socket that talks to it."""
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        client.settimeout(PATIENCE)
        client.connect(("127.0.0.1", self.port))
        return client


_IP = ("tcp", "udp")


def serve(folder: Path, code: str, name: str, *options: str) -> Service:
    """Serve a factory in this code, on a TCP port that the kernel chooses."""
    (folder / "others.py").write_text(code)
    listen = "--listen=tcp:0:interface=127.0.0.1"
    return Service("sock-serve", f"--factory=others.{name}", listen, *options, cwd=folder)


@contextmanager
def folder_for_all() -> Iterator[Path]:
    """Make a folder in which every user of the system may make files.

    It is not below pytest's own, which pytest closes to others whenever it starts.
    """
    with tempfile.TemporaryDirectory(prefix="sockservices-") as made:
        let_others_in(Path(made))
        yield Path(made)


def let_others_in(folder: Path) -> None:
    """Let every user of the system make files in a folder."""
    folder.chmod(0o777)


def read_all(connection: socket.socket) -> bytes:
    """Read until the peer closes."""
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)


def run(
    *command: str | Path,
    cwd: Path,
    input: bytes | None = None,  # noqa: A002 - as subprocess.run calls it
    env: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run a command to its end."""
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        input=input,
        stdin=subprocess.DEVNULL if input is None else None,
        capture_output=True,
        timeout=PATIENCE,
        env={**os.environ, **(env or {})},
        check=False,
    )
