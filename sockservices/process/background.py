"""``twistd`` in the background: the command returns only when the service listens.

twistd's own parent process waits only for ``startService`` to return, and shows a failure as two
lines around a text truncated to 100 bytes. This module waits for the listeners instead, and prints
the whole line.
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import NoReturn

from sockservices.exit import fail_process
from sockservices.transports.polling import is_readable

_LINE_LIMIT = 4096  # PIPE_BUF on Linux: written atomically, and never blocks on an empty pipe
_RUNS, _LISTENS = b"\1", b"\2"  # what is written unless there is an error


class ForegroundReport:
    """A report to the process in the foreground on how the start in the background went.

    Create it before ``twistd`` forks.
    """

    def __init__(self) -> None:
        from twisted.internet import reactor

        self._foreground = os.getpid()
        self._read_end, self._write_end = os.pipe()
        os.register_at_fork(after_in_parent=self._wait_in_foreground)
        # From then on, twistd itself has no error to show.
        reactor.callWhenRunning(self._tell, _RUNS)

    def listening(self) -> None:
        """Let the command return 0, once signals stop the service gracefully."""
        from twisted.internet import reactor

        reactor.callWhenRunning(self._end, _LISTENS)

    def failed(self, message: str) -> None:
        """Report in one line why the service cannot listen, and stop this process.

        The foreground waits for the exit, so the log and PID file are complete when it returns.
        """
        self._tell(message.encode("utf-8", "backslashreplace")[:_LINE_LIMIT])
        fail_process(message)

    def _tell(self, what: bytes) -> None:
        if self._write_end >= 0:
            with contextlib.suppress(BrokenPipeError):  # the foreground has been killed
                os.write(self._write_end, what)

    def _end(self, last: bytes) -> None:
        self._tell(last)
        if self._write_end >= 0:
            os.close(self._write_end)
            os.close(self._read_end)
            self._write_end = self._read_end = -1

    def _wait_in_foreground(self) -> None:
        # Runs after every fork; only the first one, in the process that the user started, counts.
        if os.getpid() != self._foreground or self._write_end < 0:
            return
        os.close(self._write_end)
        self._write_end = -1
        report = b""
        try:
            while part := os.read(self._read_end, _LINE_LIMIT):
                report += part
        except KeyboardInterrupt:
            _exit(130, b"interrupted; the service goes on in the background")
        if report == _RUNS + _LISTENS or (not report and _twistd_has_a_report()):
            return
        _exit(1, report.strip(_RUNS) or b"the service ended before it listened; see its log")


def _twistd_has_a_report() -> bool:
    """Whether something is in twistd's pipe; if nothing is, it would wait there forever.

    It is a pipe whose both ends are in this process, because twistd does not close the other one.
    """
    ends: dict[int, list[int]] = {}
    try:
        descriptors = [int(each) for each in os.listdir("/proc/self/fd")]
    except OSError:  # not Linux
        return True
    for each in descriptors:
        with contextlib.suppress(OSError):  # that of the directory, which is closed
            status = os.fstat(each)
            if stat.S_ISFIFO(status.st_mode):
                ends.setdefault(status.st_ino, []).append(each)
    return any(is_readable(end) for pipe in ends.values() if len(pipe) > 1 for end in pipe)


def _exit(status: int, line: bytes) -> NoReturn:
    with contextlib.suppress(OSError):  # the disk may be full
        os.write(2, b"twistd: " + line + b"\n")
    os._exit(status)
