"""Ports for Unix datagrams, at a path or under an abstract name."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet import unix
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import AbstractDatagramProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from sockservices.answering import why_no_answer
from sockservices.printable import DatagramPeer, escaped
from sockservices.service import IAnswering
from sockservices.transports import datagram_senders
from sockservices.transports.datagram_port import DatagramPort
from sockservices.transports.own_addresses import OURS, identity_of, own_addresses
from sockservices.transports.unix_binding import Access, bind, bind_abstract
from sockservices.transports.unix_paths import SocketFile, socket_at, taking_over

# Datagrams that Unix peers have not read count against the sender's buffer. With the usual 208 KiB,
# one peer that does not read could keep others from getting answers. With this size, its queue
# (net.unix.max_dgram_qlen) fills up first.
_SEND_BUFFER = 1 << 22  # bytes; without CAP_NET_ADMIN the system grants net.core.wmem_max


@implementer(IListeningPort)
class UnixDatagramPort(DatagramPort, unix.DatagramPort):
    """A Unix datagram socket, at a path or under an abstract name.

    Parameters:
        address: the path, or a null byte and the abstract name.
        protocol: the datagram protocol. Its peers are paths (``str``), abstract names (``bytes``)
            or, for an unbound peer, ``None``.
        access: who may use the socket file, from the moment that it exists.
        reactor: an ``IReactorFDSet`` and ``IReactorTime``.
    """

    def __init__(
        self, address: bytes, protocol: AbstractDatagramProtocol, access: Access, reactor: Any
    ) -> None:
        unix.DatagramPort.__init__(self, address, protocol, mode=access.mode, reactor=reactor)
        self._access = access
        self._address = address
        self.keeps_address = address.startswith(b"\0")  # a file goes at once
        self._file: SocketFile | None = None
        self._bound: socket.socket | None = None
        self._own: bytes | tuple[int, int] | None = None
        self._prepare()
        self._asks_who = datagram_senders.can_be_asked and IAnswering.providedBy(protocol)

    @classmethod
    def inheriting(
        cls, bound: socket.socket, protocol: AbstractDatagramProtocol, reactor: Any
    ) -> UnixDatagramPort:
        """Return a port on a socket that is bound already; leave its file unchanged."""
        port = cls(os.fsencode(bound.getsockname()), protocol, Access(0), reactor)
        port._bound = bound
        port._inherit(bound)
        return port

    def startListening(self) -> None:
        """Bind and start reading; raise ``ListenError`` or ``OSError`` if that fails."""
        self.socket = self._bound_socket()
        self.fileno = self.socket.fileno
        self.connected = 1
        try:
            self.protocol.makeConnection(self)
        except BaseException:  # the protocol could not start
            if self._file is not None:
                self._file.remove()
            self.socket.close()
            raise
        self._own = _own_identity(self._address)
        if self._own is not None:
            own_addresses.add_unix(self._own)
        self.startReading()

    def _bound_socket(self) -> socket.socket:
        if self._bound is not None:  # leave the buffer size to its owner
            if self._asks_who:
                datagram_senders.ask_for_credentials(self._bound)
            return self._bound
        made = self.createInternetSocket()
        _enlarge_send_buffer(made)
        try:
            if self._asks_who:
                datagram_senders.ask_for_credentials(made)
            if self._address.startswith(b"\0"):
                bind_abstract(made, self._address)
            else:
                with taking_over(self._address, f"unixgram:{escaped(self._address)}"):
                    self._file = bind(made, self._address, self._access)
        except BaseException:
            made.close()
            raise
        return made

    def finish(self, seconds: float) -> Deferred[None]:
        """See ``DatagramPort.finish``. Remove the file, so that new peers get an error."""
        if self._file is not None:
            self._file.remove()
        return super().finish(seconds)

    def _receiver(self) -> Callable[[], tuple[int, Any]]:
        if not self._asks_who:
            return super()._receiver()
        receive, into = self.socket.recvmsg_into, [self._buffer]

        def receive_and_ask() -> tuple[int, Any]:
            # Only Linux can be asked, and it tells the datagram's original size too.
            size, ancillary, _flags, name = receive(
                into, datagram_senders.CREDENTIALS_SIZE, socket.MSG_TRUNC
            )
            return size, datagram_senders.sender(name, ancillary)

        return receive_and_ask

    def _peer(self, raw: Any) -> DatagramPeer:
        return raw or None

    def _why_no_answer(self, addr: Any) -> str | None:
        # The socket at a path is checked when something is sent to it.
        is_own = isinstance(addr, bytes) and own_addresses.has_unix(addr)
        return OURS if is_own else why_no_answer(addr)

    def _sender(self) -> Callable[[bytes, Any], int]:
        sending = self.socket
        return lambda datagram, peer: (
            datagram_senders.send_to(sending, datagram, peer)
            if isinstance(peer, datagram_senders.Sender)
            else sending.sendto(datagram, peer)
        )

    @property
    def description(self) -> str:
        """See ``HostedPort.description``."""
        return f"unixgram{super().description.removeprefix('unix')}"

    def getHost(self) -> UNIXAddress:
        """Return the address that the port is bound to."""
        return UNIXAddress(self._address)

    def _close(self, reason: Failure | None) -> None:
        self._give_up()
        if self._own is not None:
            own_addresses.remove_unix(self._own)
        if self._file is not None:
            self._file.remove()  # if it is still ours
        unix.DatagramPort.connectionLost(self, reason)


def _own_identity(address: bytes) -> bytes | tuple[int, int] | None:
    if address.startswith(b"\0"):
        return address
    found = socket_at(address)
    # If the file of an inherited socket has gone, no path can lead to it.
    return identity_of(found) if found is not None else None


def _enlarge_send_buffer(made: socket.socket) -> None:
    force = getattr(socket, "SO_SNDBUFFORCE", 32)  # socket(7); Python has no name for it
    for name in (force, socket.SO_SNDBUF):
        with contextlib.suppress(OSError):
            made.setsockopt(socket.SOL_SOCKET, name, _SEND_BUFFER)
            return
