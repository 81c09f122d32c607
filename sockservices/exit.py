"""Exiting from inside a service, with one line and an exit status.

``twistd`` and ``twist`` exit with 0 however the reactor stopped, and print a traceback for an
exception at start. A service that fails exits through this module instead.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
from pathlib import Path
from typing import NoReturn

from twisted.internet.error import ReactorNotRunning
from twisted.logger import Logger

from sockservices.printable import system_reason
from sockservices.sink import flush_all, standard

_log = Logger(namespace="sockservices")

_status = 0  # the exit status


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
    global _status
    if not _status:
        _status = 1
        # Neither twistd nor twist lets an application choose the exit status.
        atexit.register(_exit)
    stop_process()


def exit_by_force(why: str, pid_file: str) -> NoReturn:
    """Say why, and end the process, whatever its threads are doing.

    A log that nobody reads may block this; see ``exit_at_once``.

    Parameters:
        why: one line, for the log and standard error.
        pid_file: removed if it has the ID of this process; may be empty.
    """
    _remove_pid_file(pid_file)
    message = f"exiting by force: {why}"
    say_on_stderr(message)
    _log.error("{message}", message=message)
    _flush()
    exit_at_once()


def exit_at_once() -> NoReturn:
    """End the process without a word: with status 1 after ``fail_process``, else 0."""
    os._exit(_status)


def _remove_pid_file(path: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        if int(Path(path).read_text()) == os.getpid():  # it may be another's by now
            os.unlink(path)


def say_on_stderr(message: str) -> None:
    """Print one line on the real standard error, after the name of the program."""
    with contextlib.suppress(OSError):  # it may be closed
        standard(2).write_line(f"{_program()}: {message}\n".encode("utf-8", "backslashreplace"))


def _program() -> str:
    directory, name = os.path.split(sys.argv[0])
    if name == "__main__.py":  # python -m twisted
        name = os.path.basename(directory)
    return name or "sockservices"


def show(text: str) -> None:
    """Print on standard output; exit with status 1 if it cannot be written to.

    A reader that has gone has read enough.
    """
    try:
        print(text, flush=True)
    except BrokenPipeError:
        drop_standard_output()
    except OSError as error:
        drop_standard_output()
        say_on_stderr(f"cannot write to standard output: {system_reason(error)}")
        sys.exit(1)


def drop_standard_output() -> None:
    """Discard what is printed from now on, because its reader has gone.

    Otherwise Python reports a broken pipe when it flushes at exit.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _exit() -> None:
    _flush()
    exit_at_once()


def _flush() -> None:
    flush_all()
    for stream in (sys.__stdout__, sys.__stderr__):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()  # type: ignore[union-attr]
