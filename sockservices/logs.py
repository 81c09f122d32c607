"""Log observers to be named on ``twistd``'s command line."""

from __future__ import annotations

import sys

from twisted.logger import ILogObserver, textFileLogObserver


def to_stderr() -> ILogObserver:
    """Make a log observer that writes text to standard error.

    For ``twistd -n --logger=sockservices.to_stderr``, which leaves standard output to what a
    service prints. (``--logfile /dev/stderr`` does not: twistd rotates a log file by renaming.)
    """
    return textFileLogObserver(sys.stderr)
