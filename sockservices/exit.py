"""Ending the process from inside a service, with one line and an exit status.

``twistd`` and ``twist`` exit with 0 however the reactor stopped, and print a traceback for an
exception at start. What ends because something is wrong ends here instead.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys

from twisted.internet.error import ReactorNotRunning
from twisted.logger import Logger

_log = Logger(namespace="sockservices")


def stop_process() -> None:
    """Stop the reactor, now or as soon as it runs; the exit status stays 0."""
    from twisted.internet import reactor

    def stop() -> None:
        with contextlib.suppress(ReactorNotRunning):  # already on its way out
            reactor.stop()

    reactor.callWhenRunning(stop)


def fail_process(message: str) -> None:
    """Stop the reactor and exit with status 1, saying why.

    Parameters:
        message: one line. It goes to standard error, to the real one even where ``twistd`` has
            redirected ``sys.stderr`` into the log, and to the log.
    """
    say_on_stderr(message)
    # An error: what is critical Twisted itself prints, where nothing is set up to log yet.
    _log.error("{message}", message=message)
    # Neither twistd nor twist lets the application choose the exit status.
    atexit.register(_exit_with_failure)
    stop_process()


def say_on_stderr(message: str) -> None:
    """Print one line on the real standard error, after the name of the program."""
    program = os.path.basename(sys.argv[0]) or "sockservices"
    with contextlib.suppress(OSError):  # there may be nobody left to read it
        os.write(2, f"{program}: {message}\n".encode("utf-8", "backslashreplace"))


def drop_standard_output() -> None:
    """Have what is printed from now on go nowhere: whoever read it has seen enough.

    Python would complain of a broken pipe when it flushes at the end.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _exit_with_failure() -> None:
    for stream in (sys.__stdout__, sys.__stderr__):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()  # type: ignore[union-attr]
    os._exit(1)
