"""Running a service as an operator does: as a twistd process, with its ports and its log."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import IO

from sockservices.converters import separated
from sockservices.listening import Description

PATIENCE = 30.0  # seconds before giving up


@contextmanager
def default_signals() -> Iterator[None]:
    """Have the processes that are started meanwhile begin with the default action of each signal.

    A process that ignores a signal passes that on to those it starts: SIGHUP under nohup(1),
    SIGINT in the background of a script. Python's subprocess only undoes what Python itself
    ignores. A signal that has a handler begins with its default action in every new program
    (execve(2)), so this gives each ignored signal a handler that does nothing; afterwards it
    is ignored again.

    Only the main thread can set handlers; in another one this has no effect.
    """
    ignored: list[signal.Signals] = []
    if threading.current_thread() is threading.main_thread():
        ignored = [
            each
            for each in signal.Signals
            if signal.getsignal(each) == signal.SIG_IGN and each not in _RESTORED
        ]
    for number in ignored:
        signal.signal(number, _do_nothing)
    try:
        yield
    finally:
        for number in ignored:
            signal.signal(number, signal.SIG_IGN)


def _do_nothing(_number: int, _frame: FrameType | None) -> None:
    pass


_RESTORED = {signal.SIGPIPE, signal.SIGXFSZ}  # by subprocess, as they are ignored by Python


class Collected:
    """The output of a process on one file descriptor, collected as it arrives.

    Parameters:
        stream: the read end of the pipe; ``close`` closes it.
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
        """The bytes received so far."""
        with self._changed:
            return self._bytes

    @property
    def text(self) -> str:
        """The text received so far."""
        return self.bytes.decode("utf-8", "replace")

    def wait_for(self, pattern: str, times: int = 1) -> re.Match[str]:
        """Wait until a pattern has matched this many times, and return the last of these matches.

        Raises ``RuntimeError``, with the text received so far, if it does not.
        """

        def found() -> list[re.Match[str]]:
            return list(re.finditer(pattern, self._bytes.decode("utf-8", "replace")))

        with self._changed:
            self._changed.wait_for(lambda: self._ended or len(found()) >= times, PATIENCE)
            all_found = found()
        if len(all_found) < times:
            count = len(all_found)
            missing = "did not appear" if times == 1 else f"appeared {count} times, not {times}"
            raise RuntimeError(f"{pattern!r} {missing}; the output was:\n{self.text}")
        return all_found[times - 1]

    def wait_for_bytes(self, count: int) -> None:
        """Wait until this many bytes have arrived, or the stream ends."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or len(self._bytes) >= count, PATIENCE)

    def whole(self) -> str:
        """Wait for the end of the stream, and return all its text."""
        self._thread.join(PATIENCE)
        return self.text

    def close(self) -> None:
        """Wait for the end of the stream, and close it."""
        self._thread.join(PATIENCE)
        self._stream.close()


class Twistd:
    """A ``twistd`` process in the foreground, which is listening when the constructor returns.

    It starts with the default signals (``default_signals``), also if the tests run under nohup(1).

    Parameters:
        arguments: the command and its options, such as ``"sock-echo", "--port", "0"``.
        folder: the directory to run it in.
        environment: variables to set in addition to those of this process.

    Raises ``RuntimeError``, with the output of the process, if it exits before it listens.
    """

    def __init__(
        self, arguments: Sequence[str], folder: Path, environment: dict[str, str] | None = None
    ) -> None:
        program = Path(sys.executable).with_name("twistd")
        options = ["-n", "--logger=sockservices.to_stderr"]
        with default_signals():
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
            """The endpoint descriptions of its listeners, in order."""
        except RuntimeError:
            self.end()
            raise

    @property
    def output(self) -> bytes:
        """The bytes it has written to standard output so far."""
        return self._out.bytes

    @property
    def log(self) -> str:
        """The text it has logged so far."""
        return self._err.text

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait until a pattern appears in the log; raise ``RuntimeError`` if it does not."""
        try:
            return self._err.wait_for(pattern)
        except RuntimeError as error:  # twistd reports some errors on standard output
            has_ended = self.process.poll() is not None
            said = self._out.whole() if has_ended else self._out.text
            raise RuntimeError(f"{error}{said}") from None

    @property
    def ports(self) -> list[int]:
        """The TCP and UDP ports it listens on, in the order of the listeners."""
        return [int(each.rpartition(":")[2]) for each in self.where if each[:3] in ("tcp", "udp")]

    def connect(self) -> socket.socket:
        """Return a socket that is connected to its first listener, of the same kind."""
        description = Description.parse(self.where[0])
        kind = description.prefix
        if kind in ("unix", "unixgram"):
            sort = socket.SOCK_STREAM if kind == "unix" else socket.SOCK_DGRAM
            made = socket.socket(socket.AF_UNIX, sort)
            name = description.named.get("abstract")
            address: str | tuple[str, int] = f"\0{name}" if name else description.positional[0]
        else:
            host, port = description.positional
            sort = socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM
            made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, sort)
            address = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), int(port)
        made.settimeout(PATIENCE)
        made.connect(address)
        return made

    def stop(self) -> int:
        """Send SIGTERM, wait for the process to exit, and return its status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    def end(self) -> None:
        """Kill the process if it is still running."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._out.close()
        self._err.close()
