"""Eager transports and the reactor built on them: a write with nothing before it is sent at once.

``EagerStreams`` gives them to any POSIX reactor. ``install`` installs ``EagerReactor``, which is
Linux's, as ``twistd --reactor=eager`` does; call it before anything imports the reactor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sockservices.eager.streams import EagerMethods, EagerStreams, with_streams
from sockservices.eager.unix import Server as UnixServer

if TYPE_CHECKING:
    from sockservices.eager.reactor import EagerReactor

__all__ = [
    "EagerMethods",
    "EagerReactor",
    "EagerStreams",
    "UnixServer",
    "install",
    "with_streams",
]


def install() -> None:
    """Make ``EagerReactor`` the reactor of this process.

    Raises ``ImportError`` where there is no epoll(7), and ``ReactorAlreadyInstalledError`` after
    another was installed.
    """
    from twisted.internet.main import installReactor

    from sockservices.eager.reactor import EagerReactor

    installReactor(EagerReactor())


def __getattr__(name: str) -> Any:
    if name == "EagerReactor":
        from sockservices.eager.reactor import EagerReactor

        return EagerReactor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
