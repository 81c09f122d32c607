"""The command line of ``twistd`` itself, which surrounds a service's options."""

from __future__ import annotations

import sys
from getopt import GetoptError, getopt
from typing import Any

from twisted.application.app import ServerOptions
from twisted.python import usage


def goes_to_background(options: usage.Options) -> bool:
    """Whether ``twistd`` will run in the background."""
    top = _top(options)
    return isinstance(top, ServerOptions) and not (top["nodaemon"] or top["debug"])


def write_no_pid_file_unasked(options: usage.Options) -> None:
    """Stop ``twistd -n`` from writing a PID file, unless its path was given.

    Whoever runs a service in the foreground knows its process ID. The file would be in the current
    directory, which may be read-only. In a container, it would prevent the next start after a kill:
    it has the process ID of the new process itself, which twistd takes for another server.
    """
    top = _top(options)
    is_twistd = isinstance(top, ServerOptions) and "pidfile" in top
    if not is_twistd or goes_to_background(options) or _asks_for(top, "pidfile"):
        return
    top["pidfile"] = ""


def pid_file(options: usage.Options) -> str:
    """Return the path of the PID file, or an empty string."""
    path: str = _top(options).get("pidfile") or ""
    return path


def command_again(options: usage.Options) -> list[str]:
    """Return the command line of this process, without a PID file."""
    top = _top(options)
    _options, rest = _parsed_again(top)
    no_file = ["--pidfile="] if isinstance(top, ServerOptions) else []
    # The original arguments: python -m twisted searches other paths for modules than its file.
    return [sys.executable, *sys.orig_argv[1 : -len(rest)], *no_file, *rest]


def _top(options: Any) -> Any:
    while options.parent is not None:
        options = options.parent
    return options


def _parsed_again(top: usage.Options) -> tuple[list[tuple[str, str]], list[str]]:
    """Return the options for ``twistd`` on this process's command line, and what follows them."""
    return getopt(sys.argv[1:], top.shortOpt, top.longOpt)


def _asks_for(top: usage.Options, name: str) -> bool:
    """Whether an option was given, even with the value that is its default."""
    if top[name] != top.defaults[name]:
        return True
    try:
        given, _rest = _parsed_again(top)
    except GetoptError:  # another program, which has its own options
        return False
    return f"--{name}" in dict(given)
