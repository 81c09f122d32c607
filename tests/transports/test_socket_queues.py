from __future__ import annotations

import os
import socket

from sockservices.transports.socket_queues import unacknowledged, unread


def test_what_waits_to_be_read_is_counted() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert unread(ours.fileno()) == 0
        theirs.sendall(b"12345")
        assert unread(ours.fileno()) == 5


def test_what_a_unix_peer_has_not_read_is_counted() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert unacknowledged(ours.fileno()) == 0
        ours.sendall(b"12345")
        assert unacknowledged(ours.fileno()) > 0
        theirs.recv(10)
        assert unacknowledged(ours.fileno()) == 0


def test_what_has_no_queues_holds_nothing() -> None:
    with open(os.devnull, "rb") as device:
        assert (unread(device.fileno()), unacknowledged(device.fileno())) == (0, 0)
