"""What eager ports have in common: they accept with less Python, and wait when they cannot.

Private names of Twisted used here, checked with 24.7 to 26.10: ``_buildAddr``, ``_reservedFD``,
``_shouldShutdown``; of Python, ``socket.socket._accept``, checked with 3.10 to 3.13.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet import tcp
from twisted.internet.defer import Deferred
from twisted.python import log

from sockservices.timer import cancel
from sockservices.transports.polling import is_readable
from sockservices.transports.proxied import proxied_kind

_OUT_OF_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)  # accept(2)
_PAUSE = 0.5  # seconds


class Acceptor:
    """Takes the sockets that a port accepts, where the port's factory is one.

    Of any other factory a port has a protocol built, as Twisted's ports do.
    """

    def accept(self, port: AcceptingPort, accepted: socket.socket, peer: Any) -> None:
        """Take a socket that was accepted.

        Parameters:
            port: what accepted it; ``address_of`` and ``transport_for`` know more.
            accepted: the socket, which is the acceptor's now.
            peer: the peer's address, as accept(2) gave it.
        """
        raise NotImplementedError


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
    # How many bytes may wait to be sent on a connection, and what is called when there are more.
    max_unsent: int | None = None
    on_overflow: Callable[[Any], None] | None = None
    # The call that ends a pause, if there is one.
    _resumption: Any = None
    # While some wait whom it is to accept before it closes: fires when it has, and until when.
    _finished: Deferred[None] | None = None
    _deadline: Any = None

    def doRead(self) -> None:
        """Accept connections, at most ``numberAccepts``, which follows the demand."""
        self._is_accepting = True
        try:
            self._accept()
        finally:
            self._is_accepting = False
            self._close_if_done()

    def _accept(self) -> None:
        listener, factory = self.socket, self.factory
        take = partial(factory.accept, self) if isinstance(factory, Acceptor) else self._take
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
                take(socket.socket(*kind, descriptor), peer)
            except BaseException:
                log.err()
                return
            if not self._accepts:
                return
        self.numberAccepts += 20

    def finish(self, seconds: float) -> Any:
        """Close: when those who wait in the backlog are accepted, or that time is over.

        Closing resets those who wait. While this port may not accept (``stopReading``), they wait
        on, and almost nobody joins them. At a socket that is somebody else's they wait for who has
        it next.

        Returns a ``Deferred`` that fires when it is closed.
        """
        if not self._shouldShutdown or not self.connected or self.disconnecting:
            return self.stopListening()
        finished = self._finished = Deferred()
        self._deadline = self.reactor.callLater(seconds, self.stopListening)
        self.numberAccepts = self.backlog + 1  # more do not wait: listen(2)
        if self._accepts and not self._is_accepting:  # else the next one would come within another
            self.doRead()
        self._close_if_done()
        return finished

    @property
    def is_finishing(self) -> bool:
        """Whether some wait yet whom it is to accept before it closes."""
        return self._finished is not None

    def _close_if_done(self) -> None:
        if not self.is_finishing or self._is_accepting:
            return
        if is_readable(self.fileno()):
            self.socket.listen(1)  # with less, Linux takes a newcomer for an attack (SYN flood)
        else:
            # Now: in the turn that passes before Twisted closes it others would come.
            with contextlib.suppress(OSError):
                self.socket.shutdown(socket.SHUT_RDWR)
            self.stopListening()

    def stopListening(self, *reason: Any) -> Any:
        """Close at once; harmless where it closes already. See ``IListeningPort``."""
        if not self.connected:
            return None
        if not self.disconnecting:
            cancel(self._deadline)
            super().stopListening(*reason)
            finished, self._finished = self._finished, None
            if finished is not None:
                self.deferred.chainDeferred(finished)
        return self.deferred

    def _take(self, accepted: socket.socket, peer: Any) -> None:
        protocol = self.factory.buildProtocol(self.address_of(peer))
        if protocol is None:
            accepted.close()
        else:
            protocol.makeConnection(self.transport_for(accepted, protocol, peer))

    def address_of(self, peer: Any) -> Any:
        """Return a peer's address, as accept(2) gave it, as an ``IAddress``."""
        return self._buildAddr(self._with_link(peer))

    def _with_link(self, peer: Any) -> Any:
        if self.addressFamily == socket.AF_INET6 and peer[3]:  # a link-local one names its link
            host = socket.getnameinfo(peer, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)[0]
            return (host, *peer[1:])
        return peer

    def transport_for(
        self, accepted: socket.socket, protocol: Any, peer: Any, *, proxied: bool = False
    ) -> Any:
        """Make the transport of a connection.

        Parameters:
            accepted: its socket.
            protocol: its protocol, which is not told yet.
            peer: the peer's address, as accept(2) gave it.
            proxied: whether it is to show the addresses of another peer later.
        """
        number = self.sessionno
        self.sessionno = number + 1
        kind = proxied_kind(self.transport) if proxied else self.transport
        return kind(accepted, protocol, self._with_link(peer), self, number, self.reactor)

    def _pause_accepting(self) -> None:
        # The connections that wait would wake the reactor at once, for nothing, again and again.
        self.stopReading()
        self._resumption = self.reactor.callLater(_PAUSE, self.startReading)

    def startReading(self) -> None:
        """Accept again, unless it closes."""
        if self.disconnecting:
            return
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
