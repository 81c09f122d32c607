"""Listening on sockets that belong to another process, which keeps them when we have gone.

Twisted sets the file of an adopted Unix socket to mode 0666, reduces its backlog to 50, calls
shutdown(2) at the end, which closes it for everybody, and removes the file: twisted#10261.

Private names of Twisted used here, checked with 24.7 to 26.10: ``_getLogPrefix``,
``_logConnectionLostMsg``, ``_preexistingSocket``, ``_shouldShutdown``.
"""

from __future__ import annotations

import os
import socket
from typing import Any

from twisted.internet import tcp, unix
from twisted.python import log
from twisted.python.failure import Failure

from sockservices.printable import as_is_or_escaped


class AdoptedUnixPort(unix.Port):
    """A mixin for Unix stream ports made from a file descriptor; list it before them."""

    factory: Any
    _name: str
    _preexistingSocket: Any
    _shouldShutdown = False

    def startListening(self) -> None:
        """Start accepting; the socket listens already, with its own mode and backlog."""
        self.socket = self._preexistingSocket
        name = os.fsdecode(self.socket.getsockname())
        self._name = as_is_or_escaped(name)
        log.msg(f"{self._getLogPrefix(self.factory)} starting on {name!r}")
        self.factory.doStart()
        self._preexistingSocket = None
        self.fileno = self.socket.fileno  # type: ignore[method-assign]
        self.connected = True
        self.numberAccepts = 100
        self.startReading()

    def _logConnectionLostMsg(self) -> None:
        # Twisted logs the name as it is, and that of an abstract socket begins with a null byte.
        log.msg(f"(UNIX Port {self._name} Closed)")

    def _close(self, reason: Failure) -> None:
        """Close our copy of the socket, and leave its file, which is not ours."""
        tcp.Port.connectionLost(self, reason)


def adopt_datagram_socket(port: Any, bound: socket.socket) -> None:
    """Make a ``udp.Port`` that does not listen yet use a socket that is bound already."""
    port._preexistingSocket = bound
