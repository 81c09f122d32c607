from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from sockservices.transports import datagram_senders
from sockservices.transports.datagram_senders import ImpostorError, Sender, send_to, sender
from sockservices.transports.own_addresses import identity_of, own_addresses

pytestmark = pytest.mark.skipif(
    not datagram_senders.can_be_asked, reason="this system does not tell"
)


def _sender(path: str, uid: int) -> Sender:
    found = Sender(path)
    found.uid = uid
    return found


def test_a_sender_is_its_path_and_apart_from_another_users() -> None:
    one = _sender("/run/x", 1)
    assert one == "/run/x"
    assert one == _sender("/run/x", 1)
    assert one != _sender("/run/x", 2)
    assert one != _sender("/run/y", 1)
    assert one != 5
    assert "/run/x" in {one}
    assert len({one, _sender("/run/x", 1), _sender("/run/x", 2)}) == 2


def test_the_kernel_tells_the_user(tmp_path: Path) -> None:
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiving,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sending,
    ):
        datagram_senders.ask_for_credentials(receiving)
        receiving.bind(str(tmp_path / "r"))

        def received() -> object:
            sending.sendto(b"x", str(tmp_path / "r"))
            _data, ancillary, _flags, name = receiving.recvmsg(
                10, datagram_senders.CREDENTIALS_SIZE
            )
            return sender(name, ancillary)

        assert not received()  # it has no name
        sending.bind(str(tmp_path / "s"))
        found = received()
        assert isinstance(found, Sender)
        assert (str(found), found.uid) == (str(tmp_path / "s"), os.getuid())


def test_who_sent_before_it_was_asked_is_nobody() -> None:
    found = sender("/run/x", [])
    assert found.uid == -1
    assert sender(b"\0name", []) == b"\0name"


def test_what_is_sent_goes_to_the_senders_socket_only(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sending,
    ):
        own.bind(path)
        before = os.listdir("/proc/self/fd")
        assert send_to(sending, b"hello", _sender(path, os.getuid())) == 5
        assert own.recv(10) == b"hello"
        own.setblocking(False)
        for peer in (_sender(path, os.getuid() + 1), _sender(path, -1)):
            with pytest.raises(ImpostorError, match="does not belong to the sender's user"):
                send_to(sending, b"hello", peer)
        (tmp_path / "link").symlink_to(path)
        with pytest.raises(ImpostorError, match="does not belong"):
            send_to(sending, b"hello", _sender(str(tmp_path / "link"), os.getuid()))
        own_addresses.add_unix(identity_of(os.stat(path)))
        try:
            with pytest.raises(ImpostorError, match="this process listens there itself"):
                send_to(sending, b"hello", _sender(path, os.getuid()))
        finally:
            own_addresses.remove_unix(identity_of(os.stat(path)))
        with pytest.raises(FileNotFoundError):
            send_to(sending, b"hello", _sender(str(tmp_path / "none"), os.getuid()))
        with pytest.raises(BlockingIOError):
            own.recv(10)
        assert os.listdir("/proc/self/fd") == before


def test_a_name_that_has_another_socket_means_that_one(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as old,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as new,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sending,
    ):
        old.bind(path)
        send_to(sending, b"first", _sender(path, os.getuid()))
        os.unlink(path)
        new.bind(path)
        send_to(sending, b"second", _sender(path, os.getuid()))
        assert (old.recv(10), new.recv(10)) == (b"first", b"second")
