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
from typing import IO

from sockservices.converters import separated

PATIENCE = 30.0  # seconds until it is given up


class Collected:
    """What a process writes to one descriptor, as it comes.

    Parameters:
        stream: the end of the pipe to read from; it is closed by ``close``.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._changed = threading.Condition()
        self._bytes = b""
        self._ended = False
        self._thread = threading.Thread(target=self._collect, daemon=True)
        self._thread.start()

    def _collect(self) -> None:
        while part := os.read(self._stream.fileno(), 65536):
            with self._changed:
                self._bytes += part
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    @property
    def bytes(self) -> bytes:
        """What has come so far."""
        with self._changed:
            return self._bytes

    @property
    def text(self) -> str:
        """The same, as text."""
        return self.bytes.decode("utf-8", "replace")

    def wait_for(self, pattern: str, times: int = 1) -> re.Match[str]:
        """Wait until a pattern has come so many times, and return the last match of these.

        Raises ``RuntimeError``, with what has come, if it does not.
        """

        def found() -> list[re.Match[str]]:
            return list(re.finditer(pattern, self._bytes.decode("utf-8", "replace")))

        with self._changed:
            self._changed.wait_for(lambda: self._ended or len(found()) >= times, PATIENCE)
            all_found = found()
        if len(all_found) < times:
            missing = "did not come" if times == 1 else f"came {len(all_found)} times, not {times}"
            raise RuntimeError(f"{pattern!r} {missing}; there was:\n{self.text}")
        return all_found[times - 1]

    def wait_for_bytes(self, count: int) -> None:
        """Wait until so many bytes have come, or the stream ends."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or len(self._bytes) >= count, PATIENCE)

    def whole(self) -> str:
        """Wait for the end of the stream, and return all of it."""
        self._thread.join(PATIENCE)
        return self.text

    def close(self) -> None:
        """Read no more, after the end of the stream."""
        self._thread.join(PATIENCE)
        self._stream.close()


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
        options = ["-n", "--logger=sockservices.to_stderr"]
        self.process = subprocess.Popen(
            [program, *options, *arguments],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **(environment or {})},
        )
        """The process itself."""
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self._out = Collected(self.process.stdout)
        self._err = Collected(self.process.stderr)
        try:
            self.where = separated(self.wait_for(r"listening on (\S.*)\n")[1])
            """The endpoint descriptions of its listeners, in their order."""
        except RuntimeError:
            self.end()
            raise

    @property
    def output(self) -> bytes:
        """What it has written to its standard output so far."""
        return self._out.bytes

    @property
    def log(self) -> str:
        """What it has logged so far."""
        return self._err.text

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait until the log has a pattern; raises ``RuntimeError`` if it does not come."""
        try:
            return self._err.wait_for(pattern)
        except RuntimeError as error:  # twistd explains some things on its standard output
            has_ended = self.process.poll() is not None
            said = self._out.whole() if has_ended else self._out.text
            raise RuntimeError(f"{error}{said}") from None

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
        self._out.close()
        self._err.close()
