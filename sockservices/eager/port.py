"""What eager ports have in common: they accept with less Python, and wait when they cannot.

Private names of Twisted used here, checked with 24.7 to 26.10: ``_buildAddr``, ``_reservedFD``,
``_shouldShutdown``; of Python, ``socket.socket._accept``, checked with 3.10 to 3.13.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet import tcp
from twisted.python import log

from sockservices.calls import cancel

_OUT_OF_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)  # accept(2)
_PAUSE = 0.5  # seconds


class AcceptingPort(tcp.Port):
    """To be mixed into Twisted's stream ports, before them."""

    backlog: int
    factory: Any
    reactor: Any
    socket: Any
    transport: Any
    _shouldShutdown: bool
    # Whether it is to accept; looked at for each connection.
    _accepts = False
    _is_accepting = False
    # What is told that nothing can be accepted for want of descriptors or memory, and sees to it
    # that it is not tried again at once. Without it a port does what Twisted's do, and waits.
    on_exhausted: Callable[[OSError], None] | None = None
    # The call that ends a pause, if there is one.
    _resumption: Any = None

    def doRead(self) -> None:
        """Accept connections, at most ``numberAccepts``, which follows the demand."""
        self._is_accepting = True
        try:
            self._accept()
        finally:
            self._is_accepting = False

    def _accept(self) -> None:
        listener = self.socket
        kind = (listener.family, listener.type, listener.proto)
        for accepted in range(self.numberAccepts):
            try:
                descriptor, peer = listener._accept()
            except BlockingIOError:
                self.numberAccepts = max(1, accepted)
                return
            except OSError as error:
                if not self.connected:  # a protocol has closed the port
                    log.err()
                    return
                if error.errno in _OUT_OF_RESOURCES and self.on_exhausted is not None:
                    self.on_exhausted(error)
                    return
                super().doRead()  # which knows what to do, and logs it
                if error.errno in _OUT_OF_RESOURCES and not _can_refuse(error):
                    self._pause_accepting()
                return
            try:
                # As socket.accept(), which asks for the kind anew each time.
                self._take(socket.socket(*kind, descriptor), peer)
            except BaseException:
                log.err()
                return
            if not self._accepts:
                return
        self.numberAccepts += 20

    def accept_waiting(self) -> None:
        """Accept what waits in the backlog, which closing this port would reset.

        Not from a socket that is somebody else's: there it waits for who has the socket next. Nor
        for one that is just being accepted: the next one would come within the first.
        """
        if self._accepts and self._shouldShutdown and not self._is_accepting:
            self.numberAccepts = self.backlog + 1  # more do not wait: listen(2)
            self.doRead()

    def _take(self, connection: socket.socket, peer: Any) -> None:
        if self.addressFamily == socket.AF_INET6 and peer[3]:  # a link-local one names its link
            host = socket.getnameinfo(peer, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)[0]
            peer = (host, *peer[1:])
        protocol = self.factory.buildProtocol(self._buildAddr(peer))
        if protocol is None:
            connection.close()
            return
        number = self.sessionno
        self.sessionno = number + 1
        transport = self.transport(connection, protocol, peer, self, number, self.reactor)
        protocol.makeConnection(transport)

    def _pause_accepting(self) -> None:
        # The connections that wait would wake the reactor at once, for nothing, again and again.
        self.stopReading()
        self._resumption = self.reactor.callLater(_PAUSE, self.startReading)

    def startReading(self) -> None:
        """Accept again."""
        self._accepts = True
        self._forget_resumption()
        super().startReading()

    def stopReading(self) -> None:
        """Accept no more until ``startReading``, not even one that waits already."""
        self._accepts = False
        self._forget_resumption()
        super().stopReading()

    def _forget_resumption(self) -> None:
        resumption, self._resumption = self._resumption, None
        cancel(resumption)


def _can_refuse(error: OSError) -> bool:
    """Whether Twisted has a spare descriptor to accept and close those that wait."""
    return error.errno == errno.EMFILE and tcp._reservedFD.available()
