"""Listening ports for datagrams, UDP and Unix, that lose nothing without a word.

They are Twisted's own ports but for what those do wrong: Twisted's cut at 8192 bytes in silence,
count bytes and not datagrams before they let others have a turn (so that empty datagrams keep
them for ever), drop what a full Unix peer does not take at once, and leave the path behind.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import sys
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet import error, udp, unix
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IListeningPort
from twisted.internet.protocol import AbstractDatagramProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from sockservices.answering import why_no_answer
from sockservices.calls import cancel
from sockservices.eager import adopt_datagram_socket, is_readable
from sockservices.listening import senders
from sockservices.listening.own_addresses import OURS, identity_of, own_addresses
from sockservices.listening.unix_paths import SocketFile, socket_at, taking_over
from sockservices.printable import DatagramPeer, escaped, peer_of_datagram, system_reason
from sockservices.service import IAnswering, IBatchReceiver, ITruncationReceiver

DEFAULT_MAX_DATAGRAM_SIZE = 65536  # bytes; the largest UDP datagram is 65507

# One wake-up reads this much, then others have their turn.
DATAGRAMS_A_TURN = 64
BYTES_A_TURN = 1 << 18

# Asked with MSG_TRUNC, Linux gives the datagram's own size and not that of the part read: recv(2).
_TELLS_SIZE = sys.platform == "linux"

# What waits for peers whose queues are full, all peers together; what is beyond is dropped.
UNSENT_DATAGRAMS = 1024
UNSENT_BYTES = 1 << 20

# A full Unix peer gives no sign when it has room again: unix(7) has only trying again.
_FIRST_RETRY = 0.005  # seconds
_LAST_RETRY = 0.25

# What Unix peers have not read yet counts against the sender's buffer. With the usual 208 KiB one
# peer that does not read could keep the others from their answers; with this its queue
# (net.unix.max_dgram_qlen) is full before.
_SEND_BUFFER = 1 << 22  # bytes; without CAP_NET_ADMIN the system grants net.core.wmem_max

_CANNOT_SEND_NOW = {errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOBUFS}


_log = Logger(namespace="sockservices")


class _Unsent:
    """Datagrams that wait for their peers, in order for each peer, bounded for all."""

    def __init__(self) -> None:
        self.by_peer: dict[Any, deque[bytes]] = {}
        self.count = 0
        self.size = 0

    def keep(self, datagram: bytes, peer: Any) -> bool:
        if self.count >= UNSENT_DATAGRAMS or self.size + len(datagram) > UNSENT_BYTES:
            return False
        self.by_peer.setdefault(peer, deque()).append(datagram)
        self.count += 1
        self.size += len(datagram)
        return True

    def take(self, peer: Any) -> None:
        """Forget the oldest for this peer."""
        waiting = self.by_peer[peer]
        self.count -= 1
        self.size -= len(waiting.popleft())
        if not waiting:
            del self.by_peer[peer]


class DatagramPort:
    """Reading and sending, for both families. The rest is Twisted's port."""

    datagrams_received = 0
    datagrams_truncated = 0
    datagrams_dropped = 0  # handed to write() and never sent
    datagrams_unanswered = 0  # handed to answer() and held back
    bytes_in = 0
    bytes_out = 0
    # Called with the peer of each datagram that comes: whether to drop it.
    refuses: Callable[[DatagramPeer], bool] | None = None

    _buffer: memoryview
    _reading = False
    _retry: IDelayedCall | None = None
    _retry_after = _FIRST_RETRY
    _connected_to: Any = None
    _deadline: IDelayedCall | None = None  # of a port that finishes
    _receives = False  # while it finishes, what had come
    _is_closing = False
    _is_inherited = False
    _drops_before = 0  # of a socket that others have had before us
    _drops_at_end: int | None = None

    # Twisted's port provides these.
    protocol: Any
    reactor: Any
    socket: socket.socket
    connected: Any

    def _prepare(self) -> None:
        size = getattr(self.protocol, "max_datagram_size", DEFAULT_MAX_DATAGRAM_SIZE)
        self._buffer = memoryview(bytearray(size))
        self._unsent = _Unsent()
        self._closed: list[Deferred[None]] = []
        self._takes_batches = IBatchReceiver.providedBy(self.protocol)

    def startReading(self) -> None:  # noqa: N802 - Twisted's name
        """See ``IReactorFDSet.addReader``."""
        self._reading = True
        super().startReading()  # type: ignore[misc]

    def stopReading(self) -> None:  # noqa: N802 - Twisted's name
        """See ``IReactorFDSet.removeReader``."""
        self._reading = False
        super().stopReading()  # type: ignore[misc]

    def doRead(self) -> None:
        """Deliver what is waiting, up to a fair share of one turn of the reactor."""
        receive, buffer, limit = self._receiver(), self._buffer, len(self._buffer)
        together, peer_of = self._takes_batches, self._peer
        refuses = self.refuses
        batch: list[tuple[bytes, DatagramPeer]] = []
        total = 0
        for _ in range(DATAGRAMS_A_TURN):
            try:
                size, raw_peer = receive()
            except BlockingIOError:
                break
            except ConnectionRefusedError:
                self._deliver_batch(batch)
                batch = []
                if self._connected_to is not None:
                    self.protocol.connectionRefused()
                continue
            except OSError:
                self._deliver_batch(batch)
                raise
            peer = peer_of(raw_peer)
            if refuses is not None and refuses(peer):
                continue
            data = buffer[:size].tobytes()
            total += len(data)
            if together and size <= limit:
                batch.append((data, peer))
            else:
                self._deliver_batch(batch)
                batch = []
                self._deliver(data, size, peer)
                # The protocol may have paused or stopped this port: then no more may be read.
                if not self._reading:
                    break
            if total >= BYTES_A_TURN:
                break
        self._deliver_batch(batch)
        self._close_if_done()

    def _receiver(self) -> Callable[[], tuple[int, Any]]:
        """Return what receives a datagram into the buffer; the size is greater if it was cut."""
        if _TELLS_SIZE:
            return partial(self.socket.recvfrom_into, self._buffer, 0, socket.MSG_TRUNC)

        def receive() -> tuple[int, Any]:
            size, _ancillary, flags, peer = self.socket.recvmsg_into([self._buffer])
            return size + bool(flags & socket.MSG_TRUNC), peer

        return receive

    def _inherit(self, bound: Any) -> None:
        self._is_inherited = True
        self._drops_before = _drops(bound)

    def _peer(self, raw: Any) -> DatagramPeer:
        raise NotImplementedError

    def _deliver(self, data: bytes, size: int, peer: DatagramPeer) -> None:
        self.datagrams_received += 1
        self.bytes_in += len(data)
        try:
            if size == len(data):
                self.protocol.datagramReceived(data, peer)
                return
            self.datagrams_truncated += 1
            if not _TELLS_SIZE:
                size = len(data)
            if ITruncationReceiver.providedBy(self.protocol):
                self.protocol.datagram_truncated(data, size, peer)
            else:
                _log.warn(
                    "a datagram of {size} bytes from {peer} was cut at {limit}",
                    size=size,
                    peer=peer_of_datagram(peer),
                    limit=len(data),
                )
                self.protocol.datagramReceived(data, peer)
        except BaseException:  # as Twisted does for streams: no peer may end the listener
            _log.failure(
                "{protocol} failed on a datagram of {size} bytes from {peer}",
                protocol=type(self.protocol).__name__,
                size=size,
                peer=peer_of_datagram(peer),
            )

    def _deliver_batch(self, batch: list[tuple[bytes, DatagramPeer]]) -> None:
        if not batch:
            return
        self.datagrams_received += len(batch)
        self.bytes_in += sum(len(data) for data, _peer in batch)
        try:
            self.protocol.datagrams_received(batch)
        except BaseException:
            _log.failure(
                "{protocol} failed on {count} datagrams, the first from {peer}",
                protocol=type(self.protocol).__name__,
                count=len(batch),
                peer=peer_of_datagram(batch[0][1]),
            )

    def write(self, datagram: bytes, addr: Any = None) -> None:
        """Send a datagram; if the peer's queue is full, keep it and try again.

        Raises ``twisted.internet.error.MessageLengthError`` for one that is too long to send.
        """
        self._write(datagram, self._connected_to or self._checked(addr))

    def answer(self, datagram: bytes, addr: DatagramPeer) -> None:
        """See ``AnsweringProtocol.answer``; raises as ``write`` does."""
        if not addr:
            return
        reason = why_no_answer(addr)
        if reason is None and self._is_own(addr):
            reason = OURS
        if reason is not None:
            self._hold_back(addr, reason)
        else:
            self._write(datagram, self._connected_to or addr)

    def _is_own(self, addr: Any) -> bool:
        raise NotImplementedError

    def _hold_back(self, addr: DatagramPeer, reason: str) -> None:
        self.datagrams_unanswered += 1
        if self.datagrams_unanswered == 1:
            _log.warn(
                "no answer to {peer}: {reason} (further ones are only counted)",
                peer=peer_of_datagram(addr),
                reason=reason,
            )

    def _write(self, datagram: bytes, peer: Any) -> None:
        waiting = self._unsent.by_peer
        if (waiting and peer in waiting) or not self._sent(datagram, peer):
            if not self._unsent.keep(datagram, peer):
                self._drop(peer, "too much is waiting to be sent")
            self._retry_later()

    def writeSequence(self, seq: Any, addr: Any = None) -> None:  # noqa: N802 - Twisted's name
        """Send one datagram that is made of these parts."""
        self.write(b"".join(seq), addr)

    def _checked(self, addr: Any) -> Any:
        return addr

    def _sent(self, datagram: bytes, peer: Any) -> bool:
        """Send or drop; return whether this datagram is done with."""
        try:
            if self._connected_to is not None:
                self.bytes_out += self.socket.send(datagram)
            elif isinstance(peer, senders.Sender):
                self.bytes_out += senders.send_to(self.socket, datagram, peer)
            else:
                self.bytes_out += self.socket.sendto(datagram, peer)
        except senders.ImpostorError as found:
            self._hold_back(peer, str(found))
        except OSError as failed:
            if failed.errno in _CANNOT_SEND_NOW:
                return False
            if failed.errno == errno.EMSGSIZE:
                self.datagrams_dropped += 1
                raise error.MessageLengthError(
                    f"{len(datagram)} bytes are too long for one datagram"
                ) from None
            self._drop(peer, system_reason(failed))
            if failed.errno == errno.ECONNREFUSED and self._connected_to is not None:
                self.protocol.connectionRefused()
        return True

    def _drop(self, peer: Any, reason: str) -> None:
        self.datagrams_dropped += 1
        if self.datagrams_dropped == 1:
            _log.warn(
                "a datagram to {peer} is dropped: {reason} (further ones are only counted)",
                peer=peer_of_datagram(peer),
                reason=reason,
            )

    def _retry_later(self) -> None:
        if self._retry is None:
            self._retry = self.reactor.callLater(self._retry_after, self._send_waiting)

    def _send_waiting(self) -> None:
        self._retry = None
        progress = False
        for peer, waiting in list(self._unsent.by_peer.items()):
            while waiting:
                try:
                    if not self._sent(waiting[0], peer):
                        break
                except error.MessageLengthError:
                    pass  # counted as dropped; nobody is left to tell
                self._unsent.take(peer)
                progress = True
        if self._unsent.count:
            self._retry_after = (
                _FIRST_RETRY if progress else min(self._retry_after * 2, _LAST_RETRY)
            )
            self._retry_later()
        else:
            self._retry_after = _FIRST_RETRY
            self._close_if_done()

    @property
    def dropped_by_kernel(self) -> int:
        """Datagrams that came since it listens, and that its receive buffer had no room for.

        Linux tells, others do not, and it is 0 there.
        """
        end = self._drops_at_end
        return (_drops(self.socket) if end is None else end) - self._drops_before

    def finish(self, seconds: float) -> Deferred[None]:
        """Close: when what had come is delivered and what waits is sent, or that time is over.

        What had come to an inherited socket is left in it for who has the socket next.

        Returns a ``Deferred`` that fires when it is closed.
        """
        if not self.connected:
            return succeed(None)
        self._receives = not self._is_inherited
        if not self._receives:
            self.stopReading()
        self._deadline = self.reactor.callLater(seconds, self.stopListening)
        self._close_if_done()
        return self._when_closed()

    def _has_more(self) -> bool:
        return self._receives and is_readable(self.socket.fileno())

    def _close_if_done(self) -> None:
        # One that a protocol has paused waits for it, or for the end of the time.
        finishes = self._deadline is not None
        if finishes and not (self._unsent.count or self._has_more()):
            self.stopListening()

    def stopListening(self) -> Deferred[None] | None:
        """Close at once; harmless where it closes already. See ``IListeningPort``."""
        if not self.connected:
            return None
        if not self._is_closing:
            self._is_closing = True
            super().stopListening()  # type: ignore[misc]
        return self._when_closed()

    def _when_closed(self) -> Deferred[None]:
        closed: Deferred[None] = Deferred()
        self._closed.append(closed)
        return closed

    def _give_up_sending(self) -> None:
        """Count what still waits as dropped: this port closes."""
        cancel(self._deadline)
        self._deadline = None
        if self._has_more():
            _log.warn("datagrams that had come are not handled: the time to stop is over")
        self._drops_at_end = _drops(self.socket)
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        self._send_waiting()
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        self.datagrams_dropped += self._unsent.count
        if self.datagrams_dropped:
            _log.warn("{dropped} datagrams could not be sent", dropped=self.datagrams_dropped)

    def _tell_closed(self) -> None:
        closed, self._closed = self._closed, []
        for each in closed:
            each.callback(None)


def _own_identity(address: bytes) -> bytes | tuple[int, int] | None:
    if address.startswith(b"\0"):
        return address
    found = socket_at(address)
    # If the file of an inherited socket has gone, nobody can have its name.
    return identity_of(found) if found is not None else None


_SO_MEMINFO = 55  # Linux 4.12; Python has no name for it
_MEMINFO = struct.Struct("9I")  # the last is SK_MEMINFO_DROPS: linux/sock_diag.h


def _drops(made: socket.socket) -> int:
    if sys.platform != "linux":
        return 0
    try:
        raw = made.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
        return int(_MEMINFO.unpack(raw)[-1])
    except (OSError, struct.error):  # an older kernel
        return 0


def _enlarge_send_buffer(made: socket.socket) -> None:
    force = getattr(socket, "SO_SNDBUFFORCE", 32)  # socket(7); Python has no name for it
    for name in (force, socket.SO_SNDBUF):
        with contextlib.suppress(OSError):
            made.setsockopt(socket.SOL_SOCKET, name, _SEND_BUFFER)
            return


@implementer(IListeningPort)
class UdpPort(DatagramPort, udp.MulticastPort):
    """A UDP port, IPv4 or IPv6.

    Parameters:
        port: 0 to 65535; 0 lets the kernel choose.
        protocol: the datagram protocol.
        interface: a numeric address; empty is all IPv4 addresses.
        reactor: an ``IReactorFDSet`` and ``IReactorTime``.
    """

    def __init__(
        self, port: int, protocol: AbstractDatagramProtocol, interface: str, reactor: Any
    ) -> None:
        udp.MulticastPort.__init__(self, port, protocol, interface, reactor=reactor)
        self._prepare()

    @classmethod
    def inheriting(
        cls, bound: socket.socket, protocol: AbstractDatagramProtocol, reactor: Any
    ) -> UdpPort:
        """Return a port on a socket that is bound already."""
        host, number = bound.getsockname()[:2]
        port = cls(number, protocol, host, reactor)
        adopt_datagram_socket(port, bound)
        port._inherit(bound)
        return port

    def startListening(self) -> None:
        """Bind and begin to read; raises ``CannotListenError``."""
        try:
            super().startListening()  # type: ignore[no-untyped-call]
        except BaseException:
            if hasattr(self, "socket"):  # a protocol that cannot start has no listener
                self.socket.close()
            raise
        self._own = self.socket.getsockname()[:2]
        own_addresses.add_udp(*self._own)

    def _is_own(self, addr: Any) -> bool:
        return own_addresses.has_udp(*addr)

    def connect(self, host: str, port: int) -> None:
        """See ``IUDPTransport.connect``."""
        super().connect(host, port)  # type: ignore[no-untyped-call]
        self._connected_to = (host, port)

    def _peer(self, raw: Any) -> DatagramPeer:
        host, port = raw[:2]
        if len(raw) == 4 and raw[3]:  # a link-local peer can be answered only on its link
            host = f"{host}%{raw[3]}"
        return host, port

    def _checked(self, addr: Any) -> Any:
        """Refuse names: to look one up would block. Raises ``InvalidAddressError``."""
        host = addr[0]
        ipv6 = isIPv6Address(host.partition("%")[0])
        if not (ipv6 or isIPAddress(host) or host == "<broadcast>"):
            raise error.InvalidAddressError(host, "write() takes IP addresses, not host names")
        if ipv6 != (self.addressFamily == socket.AF_INET6):
            raise error.InvalidAddressError(host, "not of the address family of this port")
        return addr

    def connectionLost(self, reason: Failure | None = None) -> None:
        """Close the socket."""
        self._give_up_sending()
        own_addresses.remove_udp(*self._own)
        super().connectionLost(reason)  # type: ignore[no-untyped-call]
        self._tell_closed()


@implementer(IListeningPort)
class UnixDatagramPort(DatagramPort, unix.DatagramPort):
    """A Unix datagram socket, at a path or under an abstract name.

    Parameters:
        address: the path, or a zero byte and the abstract name.
        protocol: the datagram protocol. Its peers are paths (``str``), abstract names (``bytes``)
            or, for a peer that is bound to nothing, ``None``.
        mode: of the socket file, in force from the moment that it exists.
        reactor: an ``IReactorFDSet`` and ``IReactorTime``.
    """

    def __init__(
        self, address: bytes, protocol: AbstractDatagramProtocol, mode: int, reactor: Any
    ) -> None:
        unix.DatagramPort.__init__(self, address, protocol, mode=mode, reactor=reactor)
        self._address = address
        self._file: SocketFile | None = None
        self._bound: socket.socket | None = None
        self._own: bytes | tuple[int, int] | None = None
        self._prepare()
        self._asks_who = senders.can_be_asked and IAnswering.providedBy(protocol)

    @classmethod
    def inheriting(
        cls, bound: socket.socket, protocol: AbstractDatagramProtocol, reactor: Any
    ) -> UnixDatagramPort:
        """Return a port on a socket that is bound already; its file stays as it is."""
        port = cls(os.fsencode(bound.getsockname()), protocol, 0, reactor)
        port._bound = bound
        port._inherit(bound)
        return port

    def startListening(self) -> None:
        """Bind and begin to read; raises ``ListenError`` or ``OSError``."""
        self.socket = self._bound_socket()
        self.fileno = self.socket.fileno  # type: ignore[method-assign]
        self.connected = 1
        try:
            self.protocol.makeConnection(self)
        except BaseException:  # a protocol that cannot start has no listener
            self.socket.close()
            if self._file is not None:
                self._file.remove()
            raise
        self._own = _own_identity(self._address)
        if self._own is not None:
            own_addresses.add_unix(self._own)
        self.startReading()

    def _bound_socket(self) -> socket.socket:
        if self._bound is not None:  # its buffer is its owner's as well
            if self._asks_who:
                senders.ask_for_credentials(self._bound)
            return self._bound
        made = self.createInternetSocket()
        _enlarge_send_buffer(made)
        try:
            if self._asks_who:
                senders.ask_for_credentials(made)
            if self._address.startswith(b"\0"):
                made.bind(self._address)
                return made
            with taking_over(self._address, f"unixgram:{escaped(self._address)}"):
                # Linux gives the file the mode of the socket, less the umask (unix_bind() in
                # af_unix.c): at no moment may more peers send than shall.
                os.fchmod(made.fileno(), self.mode)
                made.bind(self._address)
                os.chmod(self._address, self.mode)
                self._file = SocketFile(self._address)
        except BaseException:
            made.close()
            raise
        return made

    def finish(self, seconds: float) -> Deferred[None]:
        """See ``DatagramPort.finish``. Who comes now is told that nobody is there."""
        if self._file is not None:
            self._file.remove()
        return super().finish(seconds)

    def _receiver(self) -> Callable[[], tuple[int, Any]]:
        if not self._asks_who:
            return super()._receiver()
        receive, into = self.socket.recvmsg_into, [self._buffer]

        def receive_and_ask() -> tuple[int, Any]:
            # Linux, which alone can be asked, tells the datagram's own size as well.
            size, ancillary, _flags, name = receive(
                into, senders.CREDENTIALS_SIZE, socket.MSG_TRUNC
            )
            return size, senders.sender(name, ancillary)

        return receive_and_ask

    def _peer(self, raw: Any) -> DatagramPeer:
        return raw or None

    def _is_own(self, addr: Any) -> bool:
        # The socket of a path is looked at when something is sent to it.
        return isinstance(addr, bytes) and own_addresses.has_unix(addr)

    def getHost(self) -> UNIXAddress:
        """Return the address that it is bound to."""
        return UNIXAddress(self._address)

    def connectionLost(self, reason: Failure | None = None) -> None:
        """Close the socket and remove its file, if it still is its file."""
        self._give_up_sending()
        if self._own is not None:
            own_addresses.remove_unix(self._own)
        super().connectionLost(reason)  # type: ignore[no-untyped-call]
        if self._file is not None:
            self._file.remove()
        self._tell_closed()
