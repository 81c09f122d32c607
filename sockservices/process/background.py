"""``twistd`` in the background: the command returns only when the service listens.

twistd's own parent process waits only for ``startService`` to return, and shows a failure as two
lines around a text truncated to 100 bytes. This module waits for the listeners instead, and prints
the whole line.
"""

from __future__ import annotations

import os

from sockservices.exit import fail_process

_LINE_LIMIT = 4096  # PIPE_BUF on Linux: written atomically, and never blocks on an empty pipe


class ForegroundReport:
    """A report to the process in the foreground on how the start in the background went.

    Create it before ``twistd`` forks.
    """

    def __init__(self) -> None:
        self._foreground = os.getpid()
        self._read_end, self._write_end = os.pipe()
        os.register_at_fork(after_in_parent=self._wait_in_foreground)

    def listening(self) -> None:
        """Let the command return 0, once signals stop the service gracefully."""
        from twisted.internet import reactor

        reactor.callWhenRunning(self._close)

    def _close(self) -> None:
        if self._write_end >= 0:
            os.close(self._write_end)
            os.close(self._read_end)
            self._write_end = self._read_end = -1

    def failed(self, message: str) -> None:
        """Report in one line why the service cannot listen, and stop this process.

        The foreground waits for the exit, so the log and PID file are complete when it returns.
        """
        if self._write_end >= 0:
            os.write(self._write_end, message.encode("utf-8", "backslashreplace")[:_LINE_LIMIT])
        fail_process(message)

    def _wait_in_foreground(self) -> None:
        # Runs after every fork; only the first one, in the process that the user started, counts.
        if os.getpid() != self._foreground or self._write_end < 0:
            return
        os.close(self._write_end)
        self._write_end = -1
        line = b""
        while part := os.read(self._read_end, _LINE_LIMIT):
            line += part
        if line:
            os.write(2, b"twistd: " + line + b"\n")
            os._exit(1)
        # Otherwise it is listening, or has died silently; twistd's own report tells which.
