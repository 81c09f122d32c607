"""Sending datagrams: those that a peer cannot take yet are queued, in order and within bounds."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet import error
from twisted.logger import Logger

from sockservices.log_limit import LogLimit
from sockservices.printable import DatagramPeer, peer_of_datagram, system_reason
from sockservices.timer import Timer
from sockservices.transports.askers import Askers
from sockservices.transports.datagram_senders import ImpostorError
from sockservices.transports.unsent import Unsent

# Nothing tells when a full Unix peer has room again; we can only try again: unix(7).
_FIRST_RETRY = 0.005  # seconds
_LAST_RETRY = 0.25

_CANNOT_SEND_NOW = {errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOBUFS}

_log = Logger(namespace="sockservices")


class DatagramSending:
    """A mixin for datagram ports."""

    datagrams_dropped = 0  # passed to write() and never sent
    datagrams_unanswered = 0  # passed to answer() and withheld
    bytes_out = 0
    # For what any peer can cause. A host replaces them by its service's.
    service_log = _log
    log_limit: LogLimit

    _unsent: Unsent
    _retry: Timer
    _retry_after = _FIRST_RETRY
    _connected_to: Any = None
    _askers: Askers | None = None  # of a port that has several addresses
    _send_to: Callable[[bytes, Any], int] | None = None  # the ``_sender``, once it is known

    # From Twisted's port.
    protocol: Any
    reactor: Any
    socket: socket.socket

    def _prepare_sending(self) -> None:
        self._unsent = Unsent()
        self._retry = Timer(self.reactor, self._send_waiting)
        self.log_limit = LogLimit(_log, self.reactor)

    def _sent_all(self) -> None:
        """Handle that no datagram is queued any more."""
        raise NotImplementedError

    def write(self, datagram: bytes, addr: Any = None) -> None:
        """Send a datagram; if the peer's queue is full, keep it and try again.

        Raises ``twisted.internet.error.MessageLengthError`` if it is too long to send.
        """
        self._write(datagram, self._connected_to or self._checked(addr))

    def answer(self, datagram: bytes, addr: DatagramPeer) -> None:
        """See ``AnsweringProtocol.answer``; raises as ``write`` does."""
        if not addr:
            return
        reason = self._why_no_answer(addr)
        if reason is not None:
            self._hold_back(addr, reason)
        else:
            self._write(datagram, self._connected_to or addr)

    def _why_no_answer(self, addr: Any) -> str | None:
        """Return the reason not to answer this address, or ``None`` if there is none."""
        raise NotImplementedError

    def _hold_back(self, addr: DatagramPeer, reason: str) -> None:
        self.datagrams_unanswered += 1
        if self.log_limit.allows("no answer"):
            self.service_log.warn(
                "no answer to {peer}: {reason}", peer=peer_of_datagram(addr), reason=reason
            )

    def _write(self, datagram: bytes, peer: Any) -> None:
        if self._askers is not None:
            peer = self._askers.get(peer)
        unsent = self._unsent
        waits = unsent.count and peer in unsent
        if waits or not self._sent(datagram, peer):
            for loser in unsent.add(datagram, peer):
                self._drop(loser, "too many datagrams are waiting to be sent")
            if not waits:
                self._retry_soon()

    def writeSequence(self, seq: Any, addr: Any = None) -> None:
        """Send one datagram made of these parts."""
        self.write(b"".join(seq), addr)

    def _checked(self, addr: Any) -> Any:
        return addr

    def _sender(self) -> Callable[[bytes, Any], int]:
        """Return a function that sends a datagram to a peer; it returns the number of bytes sent.

        It raises ``ImpostorError`` for a peer that must not be answered, and ``OSError``.
        """
        raise NotImplementedError

    def _sent(self, datagram: bytes, peer: Any) -> bool:
        """Send or drop a datagram; return ``False`` if it must be kept and sent later."""
        try:
            self.bytes_out += (self._send_to or self._sender())(datagram, peer)
        except ImpostorError as found:
            self._hold_back(peer, str(found))
        except OSError as failed:
            if failed.errno in _CANNOT_SEND_NOW:
                return False
            if failed.errno == errno.EMSGSIZE:
                self.datagrams_dropped += 1
                raise error.MessageLengthError(
                    f"{len(datagram)} bytes do not fit in one datagram"
                ) from None
            self._drop(peer, system_reason(failed))
            if failed.errno == errno.ECONNREFUSED:
                self._tell_refused()
        return True

    def _tell_refused(self) -> None:
        if self._connected_to is None:
            return
        try:
            self.protocol.connectionRefused()
        except BaseException:  # no peer may stop the port
            _log.failure("{protocol} failed on a refusal", protocol=type(self.protocol).__name__)

    def _drop(self, peer: Any, reason: str) -> None:
        self.datagrams_dropped += 1
        if self.log_limit.allows("dropped a datagram"):
            self.service_log.warn(
                "dropped a datagram to {peer}: {reason}", peer=peer_of_datagram(peer), reason=reason
            )

    def _retry_soon(self) -> None:
        """Try soon for a peer that has just become full, however long others have been."""
        if self._retry_after > _FIRST_RETRY or not self._retry.is_running:
            self._retry_after = _FIRST_RETRY
            self._retry.start(_FIRST_RETRY)

    def _send_waiting(self) -> None:
        unsent = self._unsent
        progress = False
        for peer in unsent.peers:
            while (oldest := unsent.oldest(peer)) is not None:
                try:
                    if not self._sent(*oldest):
                        break
                except error.MessageLengthError:
                    pass  # counted as dropped; no caller is left to raise it to
                unsent.remove_oldest(peer)
                progress = True
        if unsent.count:
            self._retry_after = (
                _FIRST_RETRY if progress else min(self._retry_after * 2, _LAST_RETRY)
            )
            self._retry.start(self._retry_after)
        else:
            self._retry_after = _FIRST_RETRY
            self._sent_all()

    def _give_up_sending(self) -> None:
        """Try once more, then count queued datagrams as dropped, because this port closes."""
        self._retry.cancel()
        self._send_waiting()
        self._retry.cancel()
        self.datagrams_dropped += self._unsent.count
        if self.datagrams_dropped:
            _log.warn("{dropped} datagrams could not be sent", dropped=self.datagrams_dropped)
        self.log_limit.end_period()
