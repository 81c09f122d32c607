"""The base of stream ports: they accept with less Python, and pause when they cannot accept.

Private names of Twisted used here, checked with 24.7 to 26.10: ``_buildAddr``, ``_reservedFD``,
``_shouldShutdown``; of Python, ``socket.socket._accept``, if it is there (3.11 to 3.14).
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
from sockservices.transports.closing import UNHOSTED, Undelivered, give_up_oldest
from sockservices.transports.polling import is_readable
from sockservices.transports.proxied import proxied_kind
from sockservices.transports.socket_errors import SurvivingPort

# accept(2)
_OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)
_OUT_OF_RESOURCES = (*_OUT_OF_DESCRIPTORS, errno.ENOBUFS, errno.ENOMEM)


class Acceptor:
    """A factory that takes the accepted sockets of a port itself.

    With any other factory, a port builds a protocol for each connection, as Twisted's ports do.
    """

    def accept(self, port: AcceptingPort, accepted: socket.socket, peer: Any) -> None:
        """Take an accepted socket.

        Parameters:
            port: the port that accepted it; see its ``address_of`` and ``transport_for``.
            accepted: the socket, which now belongs to the acceptor.
            peer: the peer's address, as accept(2) returned it.
        """
        raise NotImplementedError


def _accept_publicly(listener: socket.socket) -> tuple[int, Any]:
    connection, peer = listener.accept()
    return connection.detach(), peer


# Python's own first step of accept(), without the socket object that the second step would make.
_accept: Callable[[socket.socket], tuple[int, Any]]
_accept = getattr(socket.socket, "_accept", _accept_publicly)


class AcceptingPort(SurvivingPort, tcp.Port):
    """A mixin for Twisted's stream ports; list it before them."""

    kind = "stream"
    backlog: int
    factory: Any
    reactor: Any
    socket: Any
    transport: Any
    _shouldShutdown: bool
    # Whether to accept; checked for each connection.
    _accepts = False
    _is_accepting = False
    # Called when accept(2) fails for lack of file descriptors or memory; it must prevent that the
    # port tries again at once. Without it, a port does what Twisted's do, and then pauses.
    on_exhausted: Callable[[OSError], None] | None = None
    # How many bytes may wait to be sent on a connection, and what is called if there are more.
    max_unsent: int | None = None
    on_overflow: Callable[[Any], None] | None = None
    # The sockets of its closed connections; ports of one host share it.
    undelivered: Undelivered = UNHOSTED
    # While the port accepts its backlog before it closes: fires when it has closed; its deadline.
    _finished: Deferred[None] | None = None
    _deadline: Any = None

    def doRead(self) -> Any:
        """Accept connections, at most ``numberAccepts``, which adapts to the demand."""
        self._is_accepting = True
        try:
            return self._accept()
        finally:
            self._is_accepting = False
            self._close_if_done()

    def _accept(self) -> OSError | None:
        listener, factory = self.socket, self.factory
        take = partial(factory.accept, self) if isinstance(factory, Acceptor) else self._take
        kind = (listener.family, listener.type, listener.proto)
        for accepted in range(self.numberAccepts):
            try:
                descriptor, peer = _accept(listener)
            except BlockingIOError:
                self.numberAccepts = max(1, accepted)
                return None if accepted else self._if_shut_down()
            except OSError as error:
                if not self.connected:  # a protocol has closed the port
                    log.err()
                    return None
                if error.errno in _OUT_OF_DESCRIPTORS and give_up_oldest():
                    continue
                if error.errno in _OUT_OF_RESOURCES:
                    self._lacks_resources(error)
                    return None
                ended = self._survive(error)
                if ended is not None or not self._accepts:
                    return ended
                continue
            try:
                # Like socket.accept(), which however asks for the kind each time.
                take(socket.socket(*kind, descriptor), peer)
            except BaseException:
                log.err()
                return None
            if not self._accepts:
                return None
        self.numberAccepts += 20
        return None

    def _lacks_resources(self, error: OSError) -> None:
        if self.on_exhausted is not None:
            self.on_exhausted(error)
            return
        super().doRead()  # handles the error, and logs it
        if not _can_refuse(error):
            self._pause()

    def finish(self, seconds: float) -> Any:
        """Close once the backlog is accepted, or after this many seconds.

        Closing resets connections in the backlog. While this port may not accept (``stopReading``),
        they keep waiting, and hardly any can join them. On a socket that belongs to another
        process, they wait for its next owner.

        Returns a ``Deferred`` that fires when the port is closed.
        """
        if not self._shouldShutdown or not self.connected or self.disconnecting:
            return self.stopListening()
        finished = self._finished = Deferred()
        self._deadline = self.reactor.callLater(seconds, self.stopListening)
        self.numberAccepts = self.backlog + 1  # the most that can wait: listen(2)
        if self._accepts and not self._is_accepting:  # doRead must not be nested
            self.doRead()
        self._close_if_done()
        return finished

    @property
    def is_finishing(self) -> bool:
        """Whether it still accepts its backlog before it closes."""
        return self._finished is not None

    def _close_if_done(self) -> None:
        if not self.is_finishing or self._is_accepting:
            return
        if is_readable(self.fileno()):
            self.socket.listen(1)  # with 0, Linux treats a new connection as a SYN flood
        else:
            # Now, because others could connect in the turn before Twisted closes the socket.
            with contextlib.suppress(OSError):
                self.socket.shutdown(socket.SHUT_RDWR)
            self.stopListening()

    def stopListening(self, *reason: Any) -> Any:
        """Close at once, unless it is closing already. See ``IListeningPort``."""
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
        """Return an ``IAddress`` for a peer's address as accept(2) returned it."""
        return self._buildAddr(self._with_link(peer))

    def _with_link(self, peer: Any) -> Any:
        if self.addressFamily == socket.AF_INET6 and peer[3]:  # a link-local address has a zone
            host = socket.getnameinfo(peer, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)[0]
            return (host, *peer[1:])
        return peer

    def transport_for(
        self, accepted: socket.socket, protocol: Any, peer: Any, *, proxied: bool = False
    ) -> Any:
        """Return a transport for a connection.

        Parameters:
            accepted: its socket.
            protocol: its protocol, which is not connected yet.
            peer: the peer's address, as accept(2) returned it.
            proxied: whether it may show the addresses behind a proxy later.
        """
        number = self.sessionno
        self.sessionno = number + 1
        kind = proxied_kind(self.transport) if proxied else self.transport
        return kind(accepted, protocol, self._with_link(peer), self, number, self.reactor)

    def startReading(self) -> None:
        """Accept again, unless the port is closing."""
        if self.disconnecting:
            return
        self._accepts = True
        self._forget_resumption()
        super().startReading()

    def stopReading(self) -> None:
        """Accept nothing until ``startReading``, not even a connection that waits already."""
        self._accepts = False
        self._forget_resumption()
        super().stopReading()

    def connectionLost(self, reason: Any) -> None:
        """Close the socket."""
        why = None if self.disconnecting else self._why_lost(reason)
        finished, self._finished = self._finished, None
        cancel(self._deadline)
        try:
            self._close(reason)
        finally:  # also if the factory could not stop
            self._tell_it_has_closed(why)
            if finished is not None:
                finished.callback(None)

    def _close(self, reason: Any) -> None:
        super().connectionLost(reason)


def _can_refuse(error: OSError) -> bool:
    """Whether Twisted has a spare file descriptor, to accept and close waiting connections."""
    return error.errno == errno.EMFILE and tcp._reservedFD.available()
