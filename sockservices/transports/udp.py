"""UDP ports, IPv4 and IPv6."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Self

from twisted.internet import error, udp
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import AbstractDatagramProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from sockservices.printable import Count, DatagramPeer
from sockservices.transports.accelerator import AcceleratedDatagrams
from sockservices.transports.adopted_sockets import adopt_datagram_socket
from sockservices.transports.askers import Askers, ask_for_addresses, receiver, send_to
from sockservices.transports.binding import Binding, BindsAsAsked
from sockservices.transports.datagram_port import DatagramPort
from sockservices.transports.ipv6_only import ChoosesFamilies
from sockservices.transports.multicast import Group, join
from sockservices.transports.own_addresses import own_addresses
from sockservices.transports.receive_buffer import DropWatch, enlarge, size_of
from sockservices.transports.zones import host_of, sockaddr

_log = Logger(namespace="sockservices")


@implementer(IListeningPort)
class _UdpPort(ChoosesFamilies, BindsAsAsked, DatagramPort, udp.MulticastPort):
    """A UDP port, IPv4 or IPv6.

    Parameters:
        port: 0 to 65535; 0 lets the kernel choose.
        protocol: the datagram protocol.
        interface: a numeric address; empty for all IPv4 addresses.
        reactor: an ``IReactorFDSet`` and ``IReactorTime``.
        receive_buffer: the size to ask for, in bytes, if the system's default is smaller.
        ipv6only: see ``ChoosesFamilies``.
        groups: the multicast groups to join. With any, others can listen on the same port, too.
        binding: how the socket is bound, beyond its address.
    """

    def __init__(
        self,
        port: int,
        protocol: AbstractDatagramProtocol,
        interface: str,
        reactor: Any,
        receive_buffer: int | None = None,
        ipv6only: bool | None = None,
        groups: Sequence[Group] = (),
        binding: Binding | None = None,
    ) -> None:
        udp.MulticastPort.__init__(self, port, protocol, interface, reactor=reactor)
        self.ipv6only = ipv6only
        self._groups = groups
        self.binding = binding or Binding()
        self._receive_buffer = receive_buffer
        self._prepare()

    @classmethod
    def inheriting(
        cls,
        bound: socket.socket,
        protocol: AbstractDatagramProtocol,
        reactor: Any,
        receive_buffer: int | None = None,
    ) -> Self:
        """Return a port on a socket that is bound already."""
        host, number = bound.getsockname()[:2]
        port = cls(number, protocol, host, reactor, receive_buffer)
        adopt_datagram_socket(port, bound)
        port._inherit(bound)
        return port

    def startListening(self) -> None:
        """Bind and start reading; raise ``CannotListenError`` or ``JoinError`` if that fails."""
        try:
            if "%" in self.interface:
                self._bind_to_zone()
            super().startListening()
        except BaseException:
            if hasattr(self, "socket"):
                self.socket.close()  # Twisted leaves it open
            raise
        if ask_for_addresses(self.socket):
            self._askers = Askers()
        self._names_are_peers = len(self.socket.getsockname()) == 2 or self._askers is not None
        self._send_to = self._sender()
        self._own = self.socket.getsockname()[:2]
        own_addresses.add_udp(*self._own)
        if self._receive_buffer is not None:
            self._enlarge(self._receive_buffer)
        self._drop_watch = DropWatch(self.reactor, lambda: self.dropped_by_kernel, self._tell_drops)

    def createInternetSocket(self) -> socket.socket:
        """Create the socket to bind."""
        made: socket.socket = super().createInternetSocket()
        self.socket = made
        if self._groups:
            join(made, self._groups)
        return made

    def _bind_to_zone(self) -> None:
        made = self.createInternetSocket()
        try:
            made.bind(sockaddr((self.interface, self.port)))
        except OSError as failed:
            raise error.CannotListenError(self.interface, self.port, failed) from None
        adopt_datagram_socket(self, made)

    def _enlarge(self, wanted: int) -> None:
        granted = enlarge(self.socket, wanted)
        if granted < wanted:
            _log.warn(
                "{listener} has a receive buffer of {granted} bytes instead of {wanted}: "
                "the system grants no more (on Linux, net.core.rmem_max is its limit)",
                listener=self.description,
                granted=granted,
                wanted=wanted,
            )

    def _tell_drops(self, lost: int) -> None:
        _log.warn(
            "the kernel dropped {lost} to {listener}: they came faster than they were "
            "read, and filled the receive buffer of {granted} bytes (--receive-buffer)",
            lost=Count(lost, "datagram", "datagrams"),
            listener=self.description,
            granted=size_of(self.socket),
        )

    def answer(self, datagram: bytes, addr: DatagramPeer) -> None:
        """See ``AnsweringProtocol.answer``; raises as ``write`` does."""
        send_to = self._send_to
        if send_to is None or self._unsent.count or not own_addresses.has_answered(addr):
            super().answer(datagram, addr)
            return
        if self._askers is not None:
            addr = self._askers.get(addr)
        try:
            self.bytes_out += send_to(datagram, addr)
        except OSError:
            super().answer(datagram, addr)  # tries again, and handles what fails

    def _why_no_answer(self, addr: Any) -> str | None:
        return own_addresses.why_no_answer(addr)

    def _sender(self) -> Callable[[bytes, Any], int]:
        sending = self.socket
        if self._connected_to is not None:
            return lambda datagram, _peer: sending.send(datagram)
        if self._askers is not None:
            return partial(send_to, sending)
        if self.addressFamily == socket.AF_INET6:
            return lambda datagram, peer: sending.sendto(datagram, sockaddr(peer))
        send: Callable[[bytes, Any], int] = sending.sendto
        return send

    def connect(self, host: str, port: int) -> None:
        """See ``IUDPTransport.connect``."""
        if self._connected_to is not None:
            raise RuntimeError("already connected, reconnecting is not supported")
        self.socket.connect(sockaddr(self._checked((host, port))))
        self._connected_to = (host, port)
        self._send_to = self._sender()

    def getHost(self) -> Any:
        """Return the address that it is bound to, with its zone if it has one."""
        name = self.socket.getsockname()
        kind = IPv6Address if self.addressFamily == socket.AF_INET6 else IPv4Address
        return kind("UDP", host_of(name), name[1])

    def _receiver(self) -> Callable[[], tuple[int, Any]]:
        if self._askers is None:
            return super()._receiver()
        return receiver(self.socket, self._buffer, self._peer, self._askers)

    def _peer(self, raw: Any) -> Any:
        if len(raw) == 2:  # of IPv4, or known already
            return raw
        host, port, _flow, zone = raw
        # A link-local peer can be answered only with its zone.
        return f"{host}%{zone}" if zone else host, port

    def _checked(self, addr: Any) -> Any:
        """Reject host names, because a lookup would block; raise ``InvalidAddressError``."""
        host = addr[0]
        ipv6 = isIPv6Address(host.partition("%")[0])
        if not (ipv6 or isIPAddress(host) or host == "<broadcast>"):
            raise error.InvalidAddressError(host, "write() takes IP addresses, not host names")
        if ipv6 != (self.addressFamily == socket.AF_INET6):
            raise error.InvalidAddressError(host, "not of the address family of this port")
        return addr

    def _close(self, reason: Failure | None) -> None:
        self._give_up()
        own_addresses.remove_udp(*self._own)
        udp.MulticastPort.connectionLost(self, reason)


class UdpPort(AcceleratedDatagrams, _UdpPort):
    """A UDP port, IPv4 or IPv6, accelerated if it can be; for its parameters see ``_UdpPort``."""

    # By these names the accelerator finds them.
    _read_purely, _answer_purely = _UdpPort.doRead, _UdpPort.answer
    _write_purely = _UdpPort.write
    _has_answered = own_addresses.has_answered
