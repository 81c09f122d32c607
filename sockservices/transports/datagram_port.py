"""The base of datagram ports, UDP and Unix: they lose nothing silently.

They are Twisted's own ports, with these faults fixed: Twisted's truncate datagrams silently at 8192
bytes, read on until enough bytes (not datagrams) have arrived, so that empty datagrams can occupy
them forever, drop datagrams that a full Unix peer does not take at once, and leave the socket file
behind.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from sockservices.printable import Count, DatagramPeer, peer_of_datagram
from sockservices.service import IBatchReceiver, ITruncationReceiver
from sockservices.timer import cancel
from sockservices.transports.datagram_sending import DatagramSending
from sockservices.transports.polling import is_readable
from sockservices.transports.receive_buffer import DropWatch, drops_of
from sockservices.transports.socket_errors import SurvivingPort

DEFAULT_MAX_DATAGRAM_SIZE = 65536  # bytes; the largest UDP datagram is 65507

# One wake-up reads at most this much, so that others have their turn.
DATAGRAMS_A_TURN = 64
BYTES_A_TURN = 1 << 18

# With MSG_TRUNC, Linux returns the datagram's original size, not that of the part read: recv(2).
_TELLS_SIZE = sys.platform == "linux"

_log = Logger(namespace="sockservices")


class DatagramPort(SurvivingPort, DatagramSending):
    """A mixin that reads datagrams, for UDP and Unix; the rest is Twisted's port."""

    kind = "datagram"
    datagrams_received = 0
    datagrams_truncated = 0
    bytes_in = 0
    # Called with the peer of each datagram; returns whether to drop it.
    refuses: Callable[[DatagramPeer], bool] | None = None

    _buffer: memoryview
    _names_are_peers = False  # whether a peer is as recvfrom(2) names it
    _reading = False
    _deadline: IDelayedCall | None = None  # set while the port finishes
    _receives = False  # while it finishes: whether it still reads what had arrived
    _is_closing = False
    _is_inherited = False
    _drops_before = 0  # of an inherited socket, before we had it
    _drops_at_end: int | None = None
    _drop_watch: DropWatch | None = None

    connected: Any  # from Twisted's port

    def _prepare(self) -> None:
        size = getattr(self.protocol, "max_datagram_size", DEFAULT_MAX_DATAGRAM_SIZE)
        self._buffer = memoryview(bytearray(size))
        self._prepare_sending()
        self._closed: list[Deferred[None]] = []
        self._takes_batches = IBatchReceiver.providedBy(self.protocol)

    def startReading(self) -> None:
        """See ``IReactorFDSet.addReader``."""
        self._reading = True
        self._forget_resumption()
        super().startReading()

    def stopReading(self) -> None:
        """See ``IReactorFDSet.removeReader``."""
        self._reading = False
        self._forget_resumption()
        super().stopReading()

    def doRead(self) -> OSError | None:
        """Deliver waiting datagrams, up to a fair share of one turn of the reactor."""
        receive, buffer, limit = self._receiver(), self._buffer, len(self._buffer)
        together, peer_of = self._takes_batches, None if self._names_are_peers else self._peer
        most = self._begin_turn()
        batch: list[tuple[bytes, DatagramPeer]] = []
        total, ended = 0, None
        for turn in range(DATAGRAMS_A_TURN):
            try:
                size, raw_peer = receive()
            except BlockingIOError:
                ended = None if turn else self._if_shut_down()
                break
            except OSError as error:
                self._deliver_batch(batch)
                batch = []
                ended = self._survive(error)
                if ended is not None or not self._reading:
                    break
                continue
            peer = raw_peer if peer_of is None else peer_of(raw_peer)
            if self.refuses is not None and self.refuses(peer):
                continue
            data = buffer[:size].tobytes()
            total += len(data)
            if together and size <= limit:
                batch.append((data, peer))
            else:
                if batch:
                    self._deliver_batch(batch)
                    batch = []
                self.datagrams_received += 1
                self.bytes_in += len(data)
                try:
                    if size <= limit:
                        self.protocol.datagramReceived(data, peer)
                    else:
                        self._deliver_truncated(data, size, peer)
                except BaseException as raised:  # as Twisted does: no peer may stop the listener
                    self._failed(raised, size, peer)
                # The protocol may have paused or stopped this port, so stop reading.
                if not self._reading:
                    break
            if total >= most:
                break
        self._deliver_batch(batch)
        if self._deadline is not None:
            self._close_if_done()
        return ended

    def _begin_turn(self) -> int:
        """Look for drops soon, and return how many bytes to read now."""
        watch = self._drop_watch
        if watch is not None and not watch.is_due:
            watch.look_soon()
        return BYTES_A_TURN

    def _survive(self, error: OSError) -> OSError | None:
        ended = super()._survive(error)
        if isinstance(error, ConnectionRefusedError):
            self._tell_refused()
        return ended

    def _receiver(self) -> Callable[[], tuple[int, Any]]:
        """Return a function that receives into the buffer; a larger size means truncation."""
        if _TELLS_SIZE:
            return partial(self.socket.recvfrom_into, self._buffer, 0, socket.MSG_TRUNC)

        def receive() -> tuple[int, Any]:
            size, _ancillary, flags, peer = self.socket.recvmsg_into([self._buffer])
            return size + bool(flags & socket.MSG_TRUNC), peer

        return receive

    def _inherit(self, bound: Any) -> None:
        self._is_inherited = True
        self._drops_before = drops_of(bound)

    def _peer(self, raw: Any) -> DatagramPeer:
        raise NotImplementedError

    def _deliver_truncated(self, data: bytes, size: int, peer: DatagramPeer) -> None:
        self.datagrams_truncated += 1
        if not _TELLS_SIZE:
            size = len(data)
        if ITruncationReceiver.providedBy(self.protocol):
            self.protocol.datagram_truncated(data, size, peer)
            return
        if self.log_limit.allows("truncated a datagram"):
            self.service_log.warn(
                "a datagram of {size} bytes from {peer} was truncated to {limit} bytes",
                size=size,
                peer=peer_of_datagram(peer),
                limit=len(data),
            )
        self.protocol.datagramReceived(data, peer)

    def _failed(self, raised: BaseException, size: int, peer: DatagramPeer) -> None:
        _log.failure(
            "{protocol} failed on a datagram of {size} bytes from {peer}",
            Failure(raised, type(raised), raised.__traceback__),
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
                "{protocol} failed on {count}, the first from {peer}",
                protocol=type(self.protocol).__name__,
                count=Count(len(batch), "datagram", "datagrams"),
                peer=peer_of_datagram(batch[0][1]),
            )

    @property
    def dropped_by_kernel(self) -> int:
        """The datagrams dropped because the receive buffer was full, since the port listens.

        Only Linux tells; elsewhere it is 0.
        """
        end = self._drops_at_end
        return (drops_of(self.socket) if end is None else end) - self._drops_before

    def finish(self, seconds: float) -> Deferred[None]:
        """Close once waiting datagrams are delivered and sent, or after this many seconds.

        Datagrams that wait in an inherited socket are left for its next owner.

        Returns a ``Deferred`` that fires when the port is closed.
        """
        if not self.connected:
            return succeed(None)
        self._receives = not self._is_inherited
        if not self._receives:
            self.stopReading()
        self._deadline = self.reactor.callLater(seconds, self.stopListening)
        self._close_if_done()
        return self._when_closed()

    @property
    def is_finishing(self) -> bool:
        """See ``HostedPort.is_finishing``."""
        return self._deadline is not None

    def _has_more(self) -> bool:
        return self._receives and is_readable(self.socket.fileno())

    def _close_if_done(self) -> None:
        # A port that its protocol has paused waits for the protocol, or for the deadline.
        if self.is_finishing and not (self._unsent.count or self._has_more()):
            self.stopListening()

    def stopListening(self) -> Deferred[None] | None:
        """Close at once, unless it is closing already. See ``IListeningPort``."""
        if not self.connected:
            return None
        if not self._is_closing:
            self._is_closing = True
            super().stopListening()
        return self._when_closed()

    def _when_closed(self) -> Deferred[None]:
        closed: Deferred[None] = Deferred()
        self._closed.append(closed)
        return closed

    def _sent_all(self) -> None:
        self._close_if_done()

    def connectionLost(self, reason: Failure | None = None) -> None:
        """Close the socket, unless an error that the port survives is the only reason."""
        if not self._is_closing and self._is_only_told_of_an_error(reason):
            error = self._pending_error()
            if error is None or self._survive(error) is None:
                if self._reading:  # the reactor has ended that
                    self.startReading()
                return
        why = None if self._is_closing else self._why_lost(reason)
        try:
            self._close(reason)
        finally:  # also if the protocol could not stop, where Twisted leaves the socket open
            if hasattr(self, "socket"):
                self.socket.close()
            self._tell_closed()
            self._tell_it_has_closed(why)

    def _close(self, reason: Failure | None) -> None:
        raise NotImplementedError

    def _give_up(self) -> None:
        """Finish sending and the counters, because this port closes."""
        cancel(self._deadline)
        self._deadline = None
        if self._has_more():
            _log.warn("received datagrams were not handled: the time to stop is over")
        self._drops_at_end = drops_of(self.socket)
        if self._drop_watch is not None:
            self._drop_watch.end()
        self._give_up_sending()

    def _tell_closed(self) -> None:
        closed, self._closed = self._closed, []
        for each in closed:
            each.callback(None)
