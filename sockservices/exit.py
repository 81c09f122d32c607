"""Exiting from inside a service, with one line and an exit status.

``twistd`` and ``twist`` exit with 0 however the reactor stopped, and print a traceback for an
exception at start. A service that fails exits through this module instead.
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
    """Stop the reactor, now or once it runs; the exit status stays 0."""
    from twisted.internet import reactor

    def stop() -> None:
        with contextlib.suppress(ReactorNotRunning):  # already stopping
            reactor.stop()

    reactor.callWhenRunning(stop)


def fail_process(message: str) -> None:
    """Print why, stop the reactor, and exit with status 1.

    Parameters:
        message: one line. It goes to the log and to standard error: the real one, even if
            ``twistd`` has redirected ``sys.stderr`` into the log.
    """
    say_on_stderr(message)
    # Not critical: Twisted itself would print that too if logging is not set up yet.
    _log.error("{message}", message=message)
    # Neither twistd nor twist lets an application choose the exit status.
    atexit.register(_exit_with_failure)
    stop_process()


def say_on_stderr(message: str) -> None:
    """Print one line on the real standard error, after the name of the program."""
    with contextlib.suppress(OSError):  # the reader may have gone
        os.write(2, f"{_program()}: {message}\n".encode("utf-8", "backslashreplace"))


def _program() -> str:
    directory, name = os.path.split(sys.argv[0])
    if name == "__main__.py":  # python -m twisted
        name = os.path.basename(directory)
    return name or "sockservices"


def drop_standard_output() -> None:
    """Discard what is printed from now on, because its reader has gone.

    Otherwise Python reports a broken pipe when it flushes at exit.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _exit_with_failure() -> None:
    for stream in (sys.__stdout__, sys.__stderr__):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()  # type: ignore[union-attr]
    os._exit(1)
