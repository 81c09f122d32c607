"""Logging: the fields of events, and log observers for ``twistd``'s command line."""

from __future__ import annotations

from typing import IO, cast

from twisted.logger import ILogObserver, textFileLogObserver

from sockservices.sink import Sink, standard


def to_stderr() -> ILogObserver:
    """Return a log observer that writes text to standard error.

    Use it as ``twistd -n --logger=sockservices.to_stderr``, to keep standard output for what the
    service prints. It never waits for a reader. Raises ``OSError`` if standard error is closed.
    """
    return to_sink(standard(2))


def to_sink(sink: Sink) -> ILogObserver:
    """Return a log observer that writes text to a sink, and so never waits for a reader."""
    return textFileLogObserver(cast(IO[str], _Lines(sink)))


class _Lines:
    """A sink as a text stream, which an observer calls with whole lines."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def write(self, text: str) -> None:
        self._sink.write_line(text.encode("utf-8", "backslashreplace"))

    def flush(self) -> None:
        """Do nothing: everything is written at once."""


FIELDS = {
    "addresses": "endpoint descriptions of the listeners, separated by spaces",
    "cause": "reason, by its name in the ledger",
    "count": "datagrams delivered in one batch",
    "cut": "connections closed by the shutdown before they finished",
    "dropped": "datagrams of the service that could not be sent",
    "finished": "connections that finished by themselves during the shutdown",
    "folders": "directories that --reload watches",
    "granted": "bytes that a receive buffer has",
    "id": "number of a connection in the ledger",
    "kind": "words that many similar events have in common",
    "language": "programming language, and why it is that one",
    "limit": "most bytes that a datagram may have",
    "lines": "log lines that were dropped because nobody read the log",
    "listener": "endpoint description of a listener",
    "live": "live connections",
    "lost": "datagrams that the kernel dropped",
    "message": "error that stopped the process, in one line",
    "mode": "mode of a file",
    "more": "events of a kind that were not logged",
    "name": "name of a service",
    "package": "name of an installed package",
    "path": "path of a file, escaped",
    "peer": "address of the peer, escaped",
    "period": "seconds during which they were not logged",
    "protocol": "class of a protocol",
    "reason": "reason, in words",
    "remaining": "connections that have not finished yet",
    "seconds": "seconds left to finish",
    "service": "name of the service",
    "size": "bytes in a datagram",
    "socket_name": "name of an inherited socket",
    "totals": "counts of connections and datagrams, by reason",
    "value": "entry point, as module:object",
    "wanted": "bytes that a receive buffer was to have",
    "wanted_mode": "mode that a file was to have",
    "what": "object that the event is about",
}
"""The fields of this package's log events; each name has one meaning."""
