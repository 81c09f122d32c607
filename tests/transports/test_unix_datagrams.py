from __future__ import annotations

import os
import socket
import stat
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.address import UNIXAddress
from twisted.internet.interfaces import IListeningPort
from zope.interface import implementer
from zope.interface.verify import verifyObject

from sockservices.errors import ListenError
from sockservices.service import IAnswering
from sockservices.transports.datagram_senders import Sender
from sockservices.transports.unix_binding import Access
from sockservices.transports.unix_datagrams import UnixDatagramPort
from tests.fakes import ManualReactor
from tests.transports.datagrams import (
    Answering,
    Recorder,
    Truncating,
    Unix,
    close,
    drain,
    held_back,
    listening,
    of_another_user,
)


def test_peers_of_a_unix_socket_are_paths_abstract_names_and_nobody(tmp_path: Path) -> None:
    recorder = Recorder()
    abstract = f"\0{tmp_path.name}-{os.getpid()}"
    with Unix(tmp_path, recorder) as unix:
        unix.say(b"path")
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as nobody,
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as somebody,
        ):
            nobody.sendto(b"nobody", str(unix.path))
            somebody.bind(abstract)
            somebody.sendto(b"abstract", str(unix.path))
        unix.port.doRead()
    assert recorder.received == [
        (b"path", unix.name),
        (b"nobody", None),
        (b"abstract", abstract.encode()),
    ]


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777])
@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666, 0o000])
def test_the_file_has_the_mode_whatever_the_umask(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        with Unix(tmp_path, Recorder(), mode) as unix:
            assert stat.S_IMODE(unix.path.stat().st_mode) == mode
    finally:
        os.umask(before)


def test_at_the_end_the_file_is_gone(tmp_path: Path) -> None:
    recorder = Recorder()
    with Unix(tmp_path, recorder) as unix:
        assert stat.S_ISSOCK(unix.path.stat().st_mode)
        assert unix.port.getHost() == UNIXAddress(os.fsencode(unix.path))
        verifyObject(IListeningPort, unix.port)
        close(unix.port, unix.reactor)
    assert not unix.path.exists()
    assert recorder.stopped == 1


def test_at_the_end_the_file_of_somebody_else_stays(tmp_path: Path) -> None:
    with Unix(tmp_path, Recorder()) as unix:
        unix.path.rename(tmp_path / "moved")
        unix.path.write_text("mine")
    assert unix.path.read_text() == "mine"


def test_at_the_end_a_file_that_is_gone_is_no_trouble(tmp_path: Path) -> None:
    recorder = Recorder()
    with Unix(tmp_path, recorder) as unix:
        unix.path.unlink()
    assert recorder.stopped == 1


def test_an_abstract_name_has_no_file(tmp_path: Path) -> None:
    reactor, recorder = ManualReactor(), Recorder()
    name = f"\0{tmp_path.name}-{os.getpid()}-port".encode()
    port = UnixDatagramPort(name, recorder, Access(0o600), reactor)
    with (
        listening(port, reactor),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer,
    ):
        peer.sendto(b"!", name)
        port.doRead()
        assert recorder.received == [(b"!", None)]
    assert os.listdir(tmp_path) == []


def test_a_path_that_is_in_use_is_left_alone(tmp_path: Path) -> None:
    with Unix(tmp_path, Recorder()) as unix:
        second = UnixDatagramPort(
            os.fsencode(unix.path), Recorder(), Access(0o600), ManualReactor()
        )
        with pytest.raises(ListenError, match="already in use"):
            second.startListening()
        assert unix.path.exists()


def test_a_protocol_that_cannot_start_leaves_no_socket_behind(tmp_path: Path) -> None:
    class Unwilling(Recorder):
        def startProtocol(self) -> None:
            raise RuntimeError("unwilling")

    port = UnixDatagramPort(
        os.fsencode(tmp_path / "port"), Unwilling(), Access(0o600), reactor := ManualReactor()
    )
    try:
        with pytest.raises(RuntimeError, match="unwilling"):
            port.startListening()
        assert not (tmp_path / "port").exists()
        assert not reactor.readers
    finally:
        if port.connected:
            port.socket.close()


def test_of_unix_senders_only_those_with_their_own_name_are_answered(tmp_path: Path) -> None:
    answering = Answering("relative", b"\0not there", None)
    with Unix(tmp_path, answering) as unix:
        unix.say(b"x")
        unix.port.doRead()
        assert drain(unix.peer) == [b"x"]
        assert held_back(unix.port) == (1, 1)  # the abstract name nobody has
        sender: Any = answering.received[0][1]
        assert sender == unix.name
        assert sender.uid == os.getuid()
        unix.port.answer(b"forged", of_another_user(sender))
        assert held_back(unix.port) == (2, 1)
        assert drain(unix.peer) == []


def test_no_unix_listener_of_this_process_is_answered(tmp_path: Path) -> None:
    with Unix(tmp_path, Answering()) as unix:
        abstract = UnixDatagramPort(
            b"\0" + os.fsencode(tmp_path / "a"), Answering(), Access(0o600), ManualReactor()
        )
        with listening(abstract, abstract.reactor):
            unix.port.answer(b"x", b"\0" + os.fsencode(tmp_path / "a"))
            assert unix.port.datagrams_unanswered == 1
            os.link(unix.path, tmp_path / "alias")
            own = Sender(str(tmp_path / "alias"))
            own.uid = os.getuid()
            unix.port.answer(b"x", own)
            assert unix.port.datagrams_unanswered == 2


def test_who_was_not_asked_for_has_no_user(tmp_path: Path) -> None:
    recorder = Recorder()
    with Unix(tmp_path, recorder) as unix:
        unix.say(b"x")
        unix.port.doRead()
        assert type(recorder.received[0][1]) is str


def test_asked_for_the_user_a_long_datagram_is_told_by_its_size(tmp_path: Path) -> None:
    class Both(Truncating): ...

    both = implementer(IAnswering)(Both)()
    with Unix(tmp_path, both) as unix:
        unix.say(b"too long")
        unix.port.doRead()
        assert both.truncated == [(b"too ", 8, unix.name)]


def test_on_an_inherited_socket_senders_are_asked_for_as_well(tmp_path: Path) -> None:
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as kept,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer,
    ):
        kept.bind(str(tmp_path / "s"))
        kept.setblocking(False)
        peer.bind(str(tmp_path / "p"))
        peer.setblocking(False)
        peer.sendto(b"before", str(tmp_path / "s"))  # of whom nothing was asked then
        port = UnixDatagramPort.inheriting(kept.dup(), Answering(), ManualReactor())
        with listening(port, port.reactor):
            peer.sendto(b"after", str(tmp_path / "s"))
            port.doRead()
            assert drain(peer) == [b"after"]
            assert held_back(port) == (1, 0)
