"""The log prefix of a connection, looked up only when something is logged."""

from __future__ import annotations

from typing import Any

from twisted.python import context, log


class LogContext:
    """A frame of Twisted's context (``twisted.python.context``) that knows the log prefix.

    Twisted builds a dictionary with the prefix for each event that a reactor hands on.

    Parameters:
        owner: an ``ILoggingContext``.
    """

    __slots__ = ("_owner",)

    def __init__(self, owner: Any) -> None:
        self._owner = owner

    def __getitem__(self, key: Any) -> Any:
        if key is not log.ILogContext:
            raise KeyError(key)
        prefix = self._owner.logPrefix()
        return {**context.defaultContextDict[log.ILogContext], "system": prefix}
