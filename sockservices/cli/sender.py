"""A socket that sends datagrams to one destination, and takes replies."""

from __future__ import annotations

import ipaddress
import os
import select
import socket
import sys
from collections.abc import Sequence
from typing import Any

from sockservices.cli.errors import CouldNot

_PATIENCE = 5.0  # seconds, for a Unix socket whose queue is full
_REFUSAL = 0.1  # seconds; longer than a refusal on this machine takes
_LARGEST_REPLY = 1 << 18

Destination = tuple[socket.AddressFamily, Any]
"""An address family, and an address for connect(2)."""


class QueueFullError(Exception):
    """The error if a destination does not take a datagram in time."""


class Sender:
    """A socket that sends to one destination.

    Parameters:
        destination: where to send to: one socket, a multicast group, or a broadcast address.
        wait: how long to wait for a reply to each datagram, in seconds; ``None`` for not at all.

    Raises ``OSError``.
    """

    def __init__(self, destination: Destination, wait: float | None) -> None:
        family, self._address = destination
        self._wait = wait
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        try:
            self._socket.settimeout(_PATIENCE if wait is None else wait)
            if wait is not None and family == socket.AF_UNIX:
                _bind_for_reply(self._socket)
            # A connected socket takes replies only from there, and hears of refusals.
            self._is_connected = self._connect(family)
        except BaseException:
            self._socket.close()
            raise

    def _connect(self, family: socket.AddressFamily) -> bool:
        """Connect to the destination; return ``False`` if it stands for several sockets."""
        if family == socket.AF_UNIX:
            self._socket.connect(self._address)
            return True
        if ipaddress.ip_address(self._address[0].partition("%")[0]).is_multicast:
            return False
        try:
            self._socket.connect(self._address)
        except PermissionError:  # a broadcast address
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            return False
        return True

    def send(self, payload: bytes) -> bytes | None:
        """Send a datagram; return the reply, if one is waited for.

        Raises ``QueueFullError``, ``TimeoutError`` if no reply comes, and ``OSError``.
        """
        try:
            if self._is_connected:
                self._socket.send(payload)
            else:
                self._socket.sendto(payload, self._address)
        except TimeoutError:
            raise QueueFullError from None
        return None if self._wait is None else self._socket.recv(_LARGEST_REPLY)

    def raise_refusal(self) -> None:
        """Raise ``OSError`` if the destination refuses within a moment what was sent."""
        poller = select.poll()
        poller.register(self._socket, 0)  # reports errors only
        poller.poll(_REFUSAL * 1000)
        number = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            raise OSError(number, os.strerror(number))

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def first_sent(
    destinations: Sequence[Destination], payload: bytes, wait: float | None
) -> tuple[Sender, bytes | None]:
    """Send a datagram to the first of several addresses of a host that does not refuse it.

    Returns the sender for that address, and the reply, if one is waited for. Raises as ``Sender``
    and its ``send`` do.
    """
    *others, last = destinations
    for each in others:
        try:
            return _sent(each, payload, wait, others=True)
        except TimeoutError:  # somebody may have the datagram, and act on it
            raise
        except OSError:
            continue
    return _sent(last, payload, wait)


def _sent(
    destination: Destination, payload: bytes, wait: float | None, *, others: bool = False
) -> tuple[Sender, bytes | None]:
    sender = Sender(destination, wait)
    try:
        reply = sender.send(payload)
        if others and wait is None:
            sender.raise_refusal()
    except BaseException:
        sender.close()
        raise
    return sender, reply


def _bind_for_reply(sender: socket.socket) -> None:
    """Bind to a name that a reply can be sent to; the kernel chooses it (unix(7), autobind)."""
    if sys.platform != "linux":
        raise CouldNot("--wait on Unix sockets needs Linux, which can name a socket by itself")
    sender.bind("")
