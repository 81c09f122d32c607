"""Sending datagrams: what a peer cannot take yet waits, in order and within bounds."""

from __future__ import annotations

import errno
import socket
from collections import deque
from typing import Any

from twisted.internet import error
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from sockservices.answering import why_no_answer
from sockservices.logs import RareLog
from sockservices.printable import DatagramPeer, peer_of_datagram, system_reason
from sockservices.timer import cancel
from sockservices.transports import senders
from sockservices.transports.own_addresses import OURS

# What waits for peers whose queues are full, all peers together; what is beyond is dropped.
UNSENT_DATAGRAMS = 1024
UNSENT_BYTES = 1 << 20

# A full Unix peer gives no sign when it has room again: unix(7) has only trying again.
_FIRST_RETRY = 0.005  # seconds
_LAST_RETRY = 0.25

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


class DatagramSending:
    """To be mixed into ports for datagrams."""

    datagrams_dropped = 0  # handed to write() and never sent
    datagrams_unanswered = 0  # handed to answer() and held back
    bytes_out = 0
    # Where it is told that datagrams are dropped; a host has its service's.
    rare_log: RareLog

    _unsent: _Unsent
    _retry: IDelayedCall | None = None
    _retry_after = _FIRST_RETRY
    _connected_to: Any = None

    # Twisted's port provides these.
    protocol: Any
    reactor: Any
    socket: socket.socket

    def _prepare_sending(self) -> None:
        self._unsent = _Unsent()
        self.rare_log = RareLog(_log)

    def _sent_all(self) -> None:
        """Nothing waits to be sent any more."""
        raise NotImplementedError

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
        rare_log = self.rare_log
        rare_log.warn("no answer to {peer}: {reason}", peer=peer_of_datagram(addr), reason=reason)

    def _write(self, datagram: bytes, peer: Any) -> None:
        waiting = self._unsent.by_peer
        if (waiting and peer in waiting) or not self._sent(datagram, peer):
            if not self._unsent.keep(datagram, peer):
                self._drop(peer, "too much is waiting to be sent")
            self._retry_later()

    def writeSequence(self, seq: Any, addr: Any = None) -> None:
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
        self.rare_log.warn(
            "a datagram to {peer} is dropped: {reason}", peer=peer_of_datagram(peer), reason=reason
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
            self._sent_all()

    def _give_up_sending(self) -> None:
        """Count what still waits as dropped: this port closes."""
        cancel(self._retry)
        self._send_waiting()
        cancel(self._retry)
        self.datagrams_dropped += self._unsent.count
        if self.datagrams_dropped:
            _log.warn("{dropped} datagrams could not be sent", dropped=self.datagrams_dropped)
