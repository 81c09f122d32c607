"""What is in the log: its fields, and observers to be named on ``twistd``'s command line."""

from __future__ import annotations

import sys

from twisted.logger import ILogObserver, textFileLogObserver


def to_stderr() -> ILogObserver:
    """Make a log observer that writes text to standard error.

    For ``twistd -n --logger=sockservices.to_stderr``, which leaves standard output to what a
    service prints. (``--logfile /dev/stderr`` does not: twistd rotates a log file by renaming.)
    """
    return textFileLogObserver(sys.stderr)


FIELDS = {
    "addresses": "where the service listens: endpoint descriptions, with a space between",
    "count": "datagrams that were handed over together",
    "counts": "how many were refused, by reason",
    "cut": "connections that were cut at the stop",
    "dropped": "datagrams of the service that could not be sent",
    "finished": "connections that ended by themselves within the time of the stop",
    "folders": "the folders that --reload watches",
    "id": "the number of a connection in the ledger",
    "limit": "bytes that a datagram may have",
    "live": "live connections",
    "message": "what ended the process, in one line",
    "name": "the name of a service",
    "package": "an installed package",
    "path": "a file, escaped",
    "peer": "who is at the other end, escaped",
    "protocol": "the class of a protocol",
    "reason": "why, in words",
    "remaining": "connections that have not ended yet",
    "seconds": "seconds that are left to finish",
    "service": "the service's name",
    "size": "bytes of a datagram",
    "value": "an entry point: module:object",
    "what": "the thing that it is about",
}
"""The fields of the events that this package logs: one name, one meaning."""
