"""A Unix stream port that replaces only stale socket files, and removes only its own."""

from __future__ import annotations

import os
from typing import Any

from twisted.internet import tcp
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from sockservices.printable import escaped
from sockservices.transports import stock_streams
from sockservices.transports import unix as eager_unix
from sockservices.transports.unix_paths import SocketFile, taking_over


@implementer(IListeningPort)
class UnixPort(stock_streams.UNIXPort):
    """A port with Twisted's transports, which handles the socket file itself.

    Parameters:
        path: the path of the socket file.
        factory: builds the protocols.
        backlog: the number of connections that may wait to be accepted.
        mode: the mode of the socket file, set before listen(2): until then nobody can connect.
        lockfile: whether to create a ``.lock`` file beside it, as Twisted does.
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
        """Bind and listen; raise ``ListenError`` if that fails."""
        with taking_over(self._path, f"unix:{escaped(self._path)}"):
            super().startListening()
            self._file = SocketFile(self._path)

    def finish(self, seconds: float) -> Any:
        """See ``AcceptingPort.finish``. Remove the file, so that new peers get an error."""
        self._file.remove()
        return super().finish(seconds)

    def connectionLost(self, reason: Failure) -> None:
        """Close the port, and remove the socket file, if that is still ours."""
        # Skip the parent, which removes whatever is at the path by now, or fails if it has gone.
        tcp.Port.connectionLost(self, reason)
        self._file.remove()
        if self.lockFile is not None:
            self.lockFile.unlock()


class EagerUnixPort(UnixPort):
    """A port with the eager transports."""

    transport = eager_unix.Port.transport
