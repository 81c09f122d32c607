"""``twistd`` in the background: the command returns when the service listens, not before.

twistd's own parent process waits only for ``startService`` to return, and shows a failure as two
lines around a text cut at 100 bytes. This one waits for the listeners and passes the line on.
"""

from __future__ import annotations

import os

from sockservices.exit import fail_process

_LINE_LIMIT = 4096  # PIPE_BUF on Linux: written in one piece, and never blocks an empty pipe


class ForegroundReport:
    """Tells the process in the foreground how the start in the background went.

    To be made before ``twistd`` forks.
    """

    def __init__(self) -> None:
        self._foreground = os.getpid()
        self._read_end, self._write_end = os.pipe()
        os.register_at_fork(after_in_parent=self._wait_in_foreground)

    def listening(self) -> None:
        """Let the command return 0, as soon as a signal ends the service in order."""
        from twisted.internet import reactor

        reactor.callWhenRunning(self._close)

    def _close(self) -> None:
        if self._write_end >= 0:
            os.close(self._write_end)
            os.close(self._read_end)
            self._write_end = self._read_end = -1

    def failed(self, message: str) -> None:
        """Say why the service cannot listen, in one line, and end this process.

        The foreground waits for the end, so that log and pid file are settled when it returns.
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
        # Otherwise it listens, or died without a word; twistd's own report tells which.
