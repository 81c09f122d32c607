"""A service as an operator runs it: a twistd process, with its ports, its log and its end."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

PATIENCE = 30.0  # seconds until it is given up


class Twistd:
    """One ``twistd`` process in the foreground; it listens when this has been made.

    Parameters:
        arguments: the command and its options, as ``"sock-echo", "--port", "0"``.
        folder: where it runs.
        environment: what to set beside this process's own.

    Raises ``RuntimeError``, with what the process has said, if it ends before it listens.
    """

    def __init__(
        self, arguments: Sequence[str], folder: Path, environment: dict[str, str] | None = None
    ) -> None:
        program = Path(sys.executable).with_name("twistd")
        options = ["-n", "--pidfile=", "--logger=sockservices.to_stderr"]
        self.process = subprocess.Popen(
            [program, *options, *arguments],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **(environment or {})},
        )
        self._changed = threading.Condition()
        self._texts = {"output": b"", "log": b""}
        self._open = 2
        for name, stream in (("output", self.process.stdout), ("log", self.process.stderr)):
            assert stream is not None
            threading.Thread(
                target=self._collect, args=(name, stream.fileno()), daemon=True
            ).start()
        try:
            self.where = self.wait_for(r"listening on (\S.*)\n")[1].split()
        except RuntimeError:
            self.end()
            raise

    def _collect(self, name: str, descriptor: int) -> None:
        while part := os.read(descriptor, 65536):
            with self._changed:
                self._texts[name] += part
                self._changed.notify_all()
        with self._changed:
            self._open -= 1
            self._changed.notify_all()

    @property
    def output(self) -> bytes:
        """What it has written to its standard output so far."""
        with self._changed:
            return self._texts["output"]

    @property
    def log(self) -> str:
        """What it has logged so far."""
        with self._changed:
            return self._texts["log"].decode("utf-8", "replace")

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait until the log has a pattern; raises ``RuntimeError`` if it ends before."""
        with self._changed:
            self._changed.wait_for(
                lambda: not self._open or re.search(pattern, self._log_now()), PATIENCE
            )
            found = re.search(pattern, self._log_now())
        if found is None:
            said = self.log + self.output.decode("utf-8", "replace")
            raise RuntimeError(f"{pattern!r} did not come; it said:\n{said}")
        return found

    def _log_now(self) -> str:
        return self._texts["log"].decode("utf-8", "replace")

    @property
    def ports(self) -> list[int]:
        """Where it listens on TCP and UDP, in the order of the listeners."""
        return [int(each.rpartition(":")[2]) for each in self.where if each[:3] in ("tcp", "udp")]

    def connect(self) -> socket.socket:
        """Return a socket that is connected to its first listener; of datagrams, a bound one."""
        kind, _colon, rest = self.where[0].partition(":")
        if kind in ("unix", "unixgram"):
            sort = socket.SOCK_STREAM if kind == "unix" else socket.SOCK_DGRAM
            made = socket.socket(socket.AF_UNIX, sort)
            address: str | tuple[str, int] = rest
        else:
            host, port = rest.replace("\\:", ":").rsplit(":", 1)
            sort = socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM
            made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, sort)
            address = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), int(port)
        made.settimeout(PATIENCE)
        made.connect(address)
        return made

    def stop(self) -> int:
        """Ask it to end, and wait; returns its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    def end(self) -> None:
        """End it, whatever it does."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        with self._changed:
            self._changed.wait_for(lambda: not self._open, PATIENCE)
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()
