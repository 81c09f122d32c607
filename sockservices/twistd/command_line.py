"""The command line of ``twistd`` itself, around a service's options."""

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
    """Have ``twistd -n`` write a pid file only if it was told where.

    Who runs a service in the foreground knows its process. The file would lie in the current
    directory, which may be read-only; and in a container it stops the next start after a kill: the
    process ID in it is that of the new process itself, which twistd takes for another server.
    """
    top = _top(options)
    is_twistd = isinstance(top, ServerOptions) and "pidfile" in top
    if not is_twistd or goes_to_background(options) or _asks_for(top, "pidfile"):
        return
    top["pidfile"] = ""


def command_again(options: usage.Options) -> list[str]:
    """Return the command line of this process, for one that has no pid file."""
    top = _top(options)
    _options, rest = _parsed_again(top)
    no_file = ["--pidfile="] if isinstance(top, ServerOptions) else []
    # As it was begun: python -m twisted has another path for modules than its file.
    return [sys.executable, *sys.orig_argv[1 : -len(rest)], *no_file, *rest]


def _top(options: Any) -> Any:
    while options.parent is not None:
        options = options.parent
    return options


def _parsed_again(top: usage.Options) -> tuple[list[tuple[str, str]], list[str]]:
    """Return what this process's command line has for ``twistd``, and what is behind that."""
    return getopt(sys.argv[1:], top.shortOpt, top.longOpt)


def _asks_for(top: usage.Options, name: str) -> bool:
    """Whether an option was given: a parsed one does not tell its default from a given value."""
    if top[name] != top.defaults[name]:
        return True
    try:
        given, _rest = _parsed_again(top)
    except GetoptError:  # a program of somebody else's, which has options of its own
        return False
    return f"--{name}" in dict(given)
