"""Errors in settings and descriptions, each in one line that says what would be right."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any

from twisted.internet.error import CannotListenError

from sockservices.mistakes import described, place_of
from sockservices.printable import escaped, system_reason


class ArgumentName(str):
    """The name of an argument, as part of the text of a ``SettingError``."""

    __slots__ = ()


class SettingError(ValueError):
    """The error, of one line, for a setting that is unknown, missing or has an invalid value.

    Parameters:
        text: the parts of the line. An ``ArgumentName`` among them can be spelled differently: an
            embedder writes ``max_connections`` where an operator writes ``--max-connections``.
    """

    def __init__(self, *text: str) -> None:
        super().__init__("".join(text))
        self._text = text

    def spelled(self, spell: Callable[[str], str]) -> str:
        """Return the line with its argument names spelled by ``spell``."""
        return "".join(
            spell(part) if isinstance(part, ArgumentName) else part for part in self._text
        )


class DescriptionError(ValueError):
    """The error for an invalid endpoint description; it names the faulty part."""


class ListenError(Exception):
    """The error for a listener that cannot listen; it names the description and the reason."""


_UNPRIVILEGED_PORTS = "/proc/sys/net/ipv4/ip_unprivileged_port_start"  # ip(7)


def why_not_listening(
    description: str,
    error: BaseException | None,
    why_in_use: Callable[[Any], str],
) -> ListenError:
    """Return a ``ListenError`` for what an endpoint's ``listen`` raised.

    Parameters:
        description: the endpoint description.
        error: a ``CannotListenError``, an ``OSError`` (listen(2) may fail after bind(2) has
            succeeded), or whatever a foreign endpoint raises.
        why_in_use: returns who has an address that is in use: a host and a port, or the name of
            a Unix socket.
    """
    if isinstance(error, ListenError):
        return error
    cause, address = error, None
    if isinstance(error, CannotListenError):
        cause = error.socketError
        address = error.port if error.interface is None else (error.interface, error.port)
    if isinstance(cause, OSError) and cause.errno == errno.EADDRINUSE and address is not None:
        reason = why_in_use(address)
    elif isinstance(cause, OSError):
        reason = _HINTS.get(cause.errno or 0, system_reason)(cause)
    elif isinstance(cause, BaseException) and place_of(cause):  # the service may have raised it
        reason = escaped(described(cause))
    else:
        reason = escaped(str(cause) or type(cause).__name__)
    return ListenError(f"cannot listen on {description}: {reason}")


def _denied(error: OSError) -> str:
    return (
        "permission denied: ports below "
        f"{_first_unprivileged_port()} need root or CAP_NET_BIND_SERVICE"
        if error.filename is None
        else system_reason(error)
    )


def _no_such_address(error: OSError) -> str:
    return "no interface of this machine has that address"


def _shut_down(error: OSError) -> str:
    return "another process has shut the socket down"


_HINTS = {
    errno.EACCES: _denied,
    errno.EADDRNOTAVAIL: _no_such_address,
    errno.ESHUTDOWN: _shut_down,
}


def _first_unprivileged_port() -> int:
    try:
        with open(_UNPRIVILEGED_PORTS) as setting:
            return int(setting.read())
    except (OSError, ValueError):
        return 1024


def why_no_path(path: bytes, error: OSError) -> str:
    """Return why a Unix socket cannot be created at a path, naming the faulty directory."""
    directory = os.path.dirname(path) or b"."
    if error.errno == errno.ENOENT:
        return f"the directory {escaped(directory)} does not exist"
    if error.errno == errno.ENOTDIR:
        return f"{escaped(directory)} is not a directory"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"the directory {escaped(directory)} is not writable: {system_reason(error)}"
    return system_reason(error)
