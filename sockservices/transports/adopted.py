"""Listening on sockets that belong to somebody else, who goes on with them when we are gone.

Twisted gives the file of an adopted Unix socket the mode 0666, cuts its backlog to 50, ends with
shutdown(2), which closes it for everybody, and removes the file: twisted#10261.

Private names of Twisted used here, checked with 24.7 to 26.10: ``_getLogPrefix``,
``_preexistingSocket``, ``_shouldShutdown``.
"""

from __future__ import annotations

import os
import socket
from typing import Any

from twisted.internet import tcp, unix
from twisted.python import log
from twisted.python.failure import Failure


class AdoptedUnixPort(unix.Port):
    """To be mixed into Unix stream ports that are made from a descriptor, before them."""

    factory: Any
    _preexistingSocket: Any
    _shouldShutdown = False

    def startListening(self) -> None:
        """Begin to accept; the socket listens already, and has its mode and its backlog."""
        self.socket = self._preexistingSocket
        path = os.fsdecode(self.socket.getsockname())
        log.msg(f"{self._getLogPrefix(self.factory)} starting on {path!r}")
        self.factory.doStart()
        self._preexistingSocket = None
        self.fileno = self.socket.fileno  # type: ignore[method-assign]
        self.connected = True
        self.numberAccepts = 100
        self.startReading()

    def connectionLost(self, reason: Failure) -> None:
        """Let go of the socket; its file is not ours to remove."""
        tcp.Port.connectionLost(self, reason)


def adopt_datagram_socket(port: Any, bound: socket.socket) -> None:
    """Have a ``udp.Port`` that does not listen yet use a socket that is bound already."""
    port._preexistingSocket = bound
