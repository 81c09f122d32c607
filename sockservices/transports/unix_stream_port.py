"""A Unix stream port that replaces only stale socket files, and removes only its own.

It can also listen on an abstract name, which has no file: unix(7).

Private names of Twisted used here, checked with 24.7 to 26.10: ``_preexistingSocket``,
``_shouldShutdown``.
"""

from __future__ import annotations

import os
import socket
from typing import Any

from twisted.internet import tcp
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.python.failure import Failure
from twisted.python.lockfile import FilesystemLock
from zope.interface import implementer

from sockservices.printable import escaped
from sockservices.transports import stock_streams
from sockservices.transports import unix as eager_unix
from sockservices.transports.adopted_sockets import AdoptedUnixPort
from sockservices.transports.unix_binding import Access, bind, bind_abstract
from sockservices.transports.unix_paths import SocketFile, taking_over


@implementer(IListeningPort)
class UnixPort(AdoptedUnixPort, stock_streams.UNIXPort):
    """A port with Twisted's transports, which makes its socket and the socket file itself.

    Twisted sets the mode of whatever is at the path after bind(2), also where a link leads to.

    Parameters:
        address: the path of the socket file, or a null byte and an abstract name.
        factory: builds the protocols.
        backlog: the number of connections that may wait to be accepted.
        access: who may use the socket file, from the moment that it exists.
        lockfile: whether to create a ``.lock`` file beside it, as Twisted does.
        reactor: an ``IReactorFDSet``.
    """

    _file: SocketFile | None = None
    _shouldShutdown = True

    def __init__(
        self,
        address: bytes,
        factory: IProtocolFactory,
        backlog: int,
        access: Access,
        lockfile: bool,
        reactor: Any,
    ) -> None:
        name: Any = os.fsdecode(address)  # Twisted takes both, but says bytes
        super().__init__(name, factory, backlog, access.mode, reactor, int(lockfile))
        self._address = address
        self._access = access

    def startListening(self) -> None:
        """Bind and listen; raise ``ListenError`` if that fails."""
        made: socket.socket = self.createInternetSocket()
        try:
            if self._address.startswith(b"\0"):
                bind_abstract(made, self._address)
            else:
                with taking_over(self._address, f"unix:{escaped(self._address)}"):
                    if self.wantPID:
                        self._lock()
                    self._file = bind(made, self._address, self._access)
            made.listen(self.backlog)
            self._preexistingSocket = made
            super().startListening()
        except BaseException:  # also if the factory could not start
            self._clean_up()
            made.close()
            raise

    def _lock(self) -> None:
        lock = FilesystemLock(self._address + b".lock")
        if not lock.lock():
            raise CannotListenError(None, self._address, "cannot acquire lock")
        self.lockFile = lock

    def _clean_up(self) -> None:
        if self._file is not None:
            self._file.remove()
        lock, self.lockFile = self.lockFile, None
        if lock is not None:
            lock.unlock()

    def finish(self, seconds: float) -> Any:
        """See ``AcceptingPort.finish``. Remove the file, so that new peers get an error."""
        if self._file is not None:
            self._file.remove()
        return super().finish(seconds)

    def _close(self, reason: Failure) -> None:
        self._clean_up()
        # Skip the parent, which removes whatever is at the path by now, or fails if it has gone.
        tcp.Port.connectionLost(self, reason)


class EagerUnixPort(UnixPort):
    """A port with the eager transports."""

    transport = eager_unix.Port.transport
