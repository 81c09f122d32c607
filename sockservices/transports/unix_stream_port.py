"""A listening port for Unix streams that makes way only from the dead, and removes only its own."""

from __future__ import annotations

import os
from typing import Any

from twisted.internet import tcp
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from sockservices.printable import escaped
from sockservices.transports import stock
from sockservices.transports import unix as eager_unix
from sockservices.transports.unix_paths import SocketFile, taking_over


@implementer(IListeningPort)
class UnixPort(stock.UNIXPort):
    """A port of Twisted's transports, but for the file of the socket.

    Parameters:
        path: where the socket file will be.
        factory: builds the protocols.
        backlog: connections that may wait to be accepted.
        mode: of the socket file; set before listen(2), without which nobody can connect.
        lockfile: make a ``.lock`` beside it, as Twisted does.
        reactor: an ``IReactorFDSet``.
    """

    def __init__(
        self,
        path: bytes,
        factory: IProtocolFactory,
        backlog: int,
        mode: int,
        lockfile: bool,
        reactor: Any,
    ) -> None:
        super().__init__(os.fsdecode(path), factory, backlog, mode, reactor, int(lockfile))  # type: ignore[arg-type]
        self._path = path

    def startListening(self) -> None:
        """Bind and listen; raises ``ListenError``."""
        with taking_over(self._path, f"unix:{escaped(self._path)}"):
            super().startListening()
            self._file = SocketFile(self._path)

    def finish(self, seconds: float) -> Any:
        """See ``AcceptingPort.finish``. Who comes now is told that nobody is there."""
        self._file.remove()
        return super().finish(seconds)

    def connectionLost(self, reason: Failure) -> None:
        """Close, and remove the socket file, if it still is ours."""
        # Past the parent, which removes whatever has the path by now, and fails if nothing has.
        tcp.Port.connectionLost(self, reason)
        self._file.remove()
        if self.lockFile is not None:
            self.lockFile.unlock()


class EagerUnixPort(UnixPort):
    """The same, of the eager transports."""

    transport = eager_unix.Port.transport
