from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor as _reactor
from twisted.internet.address import UNIXAddress
from twisted.internet.interfaces import IListeningPort
from zope.interface.verify import verifyObject

from sockservices.errors import ListenError
from sockservices.listening import Listening, listener
from sockservices.services.hello import HelloFactory
from sockservices.transports.unix_binding import Access
from sockservices.transports.unix_stream_port import UnixPort
from tests.fakes import with_reactor

reactor: Any = _reactor


def _port(path: Path, mode: int = 0o600, lockfile: bool = False) -> Any:
    port = UnixPort(os.fsencode(path), HelloFactory(), 5, Access(mode), lockfile, reactor)
    port.startListening()
    return port


async def _closed(port: Any) -> None:
    await port.stopListening()


@with_reactor
async def test_it_listens_at_its_path_and_cleans_up(tmp_path: Path) -> None:
    port = _port(tmp_path / "socket", lockfile=True)
    assert port.getHost() == UNIXAddress(str(tmp_path / "socket"))
    verifyObject(IListeningPort, port)
    assert sorted(os.listdir(tmp_path)) == ["socket", "socket.lock"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.connect(str(tmp_path / "socket"))
    await _closed(port)
    assert os.listdir(tmp_path) == []


@with_reactor
async def test_the_file_has_the_mode_whatever_the_umask(tmp_path: Path) -> None:
    for umask in (0o000, 0o077):
        before = os.umask(umask)
        try:
            port = _port(tmp_path / "socket", 0o660)
        finally:
            os.umask(before)
        assert (tmp_path / "socket").stat().st_mode & 0o777 == 0o660
        await _closed(port)


def test_what_cannot_start_leaves_nothing(tmp_path: Path) -> None:
    class Failing(HelloFactory):
        def doStart(self) -> None:
            raise ZeroDivisionError

    port = UnixPort(os.fsencode(tmp_path / "socket"), Failing(), 5, Access(0o600), True, reactor)
    with pytest.raises(ZeroDivisionError):
        port.startListening()
    assert os.listdir(tmp_path) == []
    assert port not in reactor.getReaders()


def test_a_lock_file_of_a_live_process_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "socket.lock").symlink_to(str(os.getppid()))
    with pytest.raises(ListenError, match="cannot acquire lock"):
        _port(tmp_path / "socket", lockfile=True)
    assert os.listdir(tmp_path) == ["socket.lock"]


@with_reactor
async def test_it_closes_though_its_file_is_gone(tmp_path: Path) -> None:
    port = _port(tmp_path / "socket")
    (tmp_path / "socket").unlink()
    await _closed(port)
    assert not port.connected


@with_reactor
async def test_it_leaves_a_file_that_has_its_path_by_now(tmp_path: Path) -> None:
    port = _port(tmp_path / "socket")
    (tmp_path / "socket").rename(tmp_path / "moved")
    (tmp_path / "socket").write_text("mine")
    await _closed(port)
    assert (tmp_path / "socket").read_text() == "mine"


@with_reactor
async def test_a_second_one_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    port = _port(tmp_path / "socket")
    with pytest.raises(ListenError, match="already in use"):
        _port(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.connect(str(tmp_path / "socket"))
    await _closed(port)


@with_reactor
async def test_a_description_makes_one(tmp_path: Path) -> None:
    endpoint = listener(reactor, f"unix:{tmp_path}/socket:mode=640", Listening()).endpoint
    port = await endpoint.listen(HelloFactory())
    assert isinstance(port, UnixPort)
    assert (tmp_path / "socket").stat().st_mode & 0o777 == 0o640
    await _closed(port)
