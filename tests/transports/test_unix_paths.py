from __future__ import annotations

import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.error import CannotListenError

from sockservices.errors import DescriptionError, ListenError
from sockservices.listening.descriptions import PATH_LIMIT, checked_path
from sockservices.transports import unix_paths
from sockservices.transports.unix_paths import SocketFile, taking_over
from tests.fakes import logged

KINDS = pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])


@contextmanager
def _bound(path: Path, kind: socket.SocketKind, backlog: int | None = 5) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, kind) as made:
        made.bind(str(path))
        if kind == socket.SOCK_STREAM and backlog is not None:
            made.listen(backlog)
        yield made


def _take(path: Path, kind: socket.SocketKind) -> None:
    with taking_over(os.fsencode(path), "unix:x"), _bound(path, kind):
        pass


@given(st.text(st.characters()))
def test_a_path_is_its_bytes_or_a_description_error(path: str) -> None:
    try:
        raw = checked_path(path)
    except DescriptionError:
        return
    assert os.fsdecode(raw) == path
    assert len(raw) <= PATH_LIMIT


def test_the_limit_of_a_path_is_in_bytes() -> None:
    longest = "ü" * (PATH_LIMIT // 2)
    assert checked_path(longest) == longest.encode()
    with pytest.raises(DescriptionError, match=f"{len(longest.encode()) + 2} bytes long"):
        checked_path(longest + "ü")


def test_the_limit_is_that_of_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind("x" * PATH_LIMIT)
    assert os.listdir(tmp_path) == ["x" * PATH_LIMIT]


@KINDS
def test_a_free_path_can_be_taken(tmp_path: Path, kind: socket.SocketKind) -> None:
    _take(tmp_path / "socket", kind)
    assert os.listdir(tmp_path) == ["socket"]


@KINDS
def test_a_socket_that_nobody_has_is_replaced(tmp_path: Path, kind: socket.SocketKind) -> None:
    with _bound(tmp_path / "socket", kind):
        pass
    _take(tmp_path / "socket", kind)


@KINDS
@pytest.mark.parametrize("living", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_socket_that_somebody_has_is_left_alone(
    tmp_path: Path, kind: socket.SocketKind, living: socket.SocketKind
) -> None:
    with _bound(tmp_path / "socket", living):
        with pytest.raises(ListenError, match=r"^cannot listen on unix:x: address already in use"):
            _take(tmp_path / "socket", kind)
        assert (tmp_path / "socket").is_socket()


def test_a_listener_whose_backlog_is_full_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    waiting: list[socket.socket] = []
    try:
        with _bound(path, socket.SOCK_STREAM, backlog=0):
            while True:
                waiting.append(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
                waiting[-1].setblocking(False)
                try:
                    waiting[-1].connect(str(path))
                except BlockingIOError:
                    break
            with pytest.raises(ListenError, match="already in use"):
                _take(path, socket.SOCK_STREAM)
            assert path.is_socket()
    finally:
        for each in waiting:
            each.close()


@KINDS
def test_what_is_no_socket_is_left_as_it_is(tmp_path: Path, kind: socket.SocketKind) -> None:
    path = tmp_path / "thing"
    path.write_text("mine")
    with pytest.raises(ListenError, match="exists and is not a socket; it was not changed"):
        _take(path, kind)
    assert path.read_text() == "mine"
    path.unlink()
    path.mkdir()
    with pytest.raises(ListenError, match="exists and is not a socket"):
        _take(path, kind)
    assert path.is_dir()


@KINDS
def test_a_link_is_left_as_it_is_wherever_it_leads(tmp_path: Path, kind: socket.SocketKind) -> None:
    with _bound(tmp_path / "stale", kind):
        pass
    for target in ("stale", "nowhere"):
        path = tmp_path / f"link-to-{target}"
        path.symlink_to(target)
        with pytest.raises(ListenError, match="exists and is not a socket"):
            _take(path, kind)
        assert path.is_symlink()
    assert (tmp_path / "stale").is_socket()


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("missing/socket", "the directory .*missing does not exist"),
        ("file/socket", "file is not a directory"),
    ],
)
def test_the_folder_at_fault_is_named(tmp_path: Path, path: str, reason: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ListenError, match=f"^cannot listen on unix:x: .*{reason}$"):
        _take(tmp_path / path, socket.SOCK_STREAM)


def test_a_path_without_a_folder_is_in_the_current_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _take(Path("socket"), socket.SOCK_STREAM)
    assert (tmp_path / "socket").is_socket()


def test_what_the_body_raises_is_told(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path / "socket")
    with pytest.raises(ListenError, match="No space left on device"):
        with taking_over(path, "unix:x"):
            raise CannotListenError(None, 0, OSError(28, "No space left on device"))
    with pytest.raises(ListenError, match=r"^cannot listen on unix:x: locked by\\nanother$"):
        with taking_over(path, "unix:x"):
            raise CannotListenError(None, 0, "locked by\nanother")
    with pytest.raises(ListenError, match="already in use"):
        with taking_over(path, "unix:x"):
            raise OSError(98, "Address already in use")
    with pytest.raises(ZeroDivisionError):
        with taking_over(path, "unix:x"):
            raise ZeroDivisionError


def _lock(folder: Path) -> int:
    fd = os.open(folder, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return fd


def test_meanwhile_the_folder_is_locked_and_afterwards_it_is_not(tmp_path: Path) -> None:
    for raises in (False, True):
        with _bound(tmp_path / "x", socket.SOCK_STREAM):
            pass
        try:
            with taking_over(os.fsencode(tmp_path / "x"), "unix:x"):
                with pytest.raises(BlockingIOError):
                    _lock_and_close(tmp_path)
                if raises:
                    raise ZeroDivisionError
        except ZeroDivisionError:
            pass
        _lock_and_close(tmp_path)
    assert os.listdir(tmp_path) == []


def _lock_and_close(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(fd)


class Time:
    """The time of a module that sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_all_sockets_in_folders_that_others_keep_locked_wait_only_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    time = Time()
    monkeypatch.setattr(unix_paths, "time", time)
    monkeypatch.setattr(unix_paths, "_patient_until", 0.0)
    paths = []
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
        paths += [tmp_path / folder / str(number) for number in range(10)]
    for path in paths:
        with _bound(path, socket.SOCK_STREAM):
            pass
    locks = [_lock(path.parent) for path in paths[::10]]
    try:
        for path in paths:
            _take(path, socket.SOCK_STREAM)
        assert 0.04 < time.now - 1000 < 0.07
        time.sleep(2)
        _take(paths[0], socket.SOCK_STREAM)
        assert 2.08 < time.now - 1000 < 2.14  # the next service waits again
    finally:
        for lock in locks:
            os.close(lock)


@pytest.mark.parametrize("reason", [errno.EBADF, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL])
def test_a_folder_that_cannot_be_locked_is_used_and_that_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: int
) -> None:
    def refuse(_fd: int, _how: int) -> None:
        raise OSError(reason, os.strerror(reason))

    with _bound(tmp_path / "socket", socket.SOCK_STREAM):
        pass
    monkeypatch.setattr(fcntl, "flock", refuse)
    with logged() as events:
        _take(tmp_path / "socket", socket.SOCK_STREAM)
    [event] = events
    assert (event["path"], event["reason"]) == (str(tmp_path / "socket"), os.strerror(reason))


def test_no_lock_is_needed_for_a_free_path_and_to_remove_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_fd: int, _operation: int) -> None:
        raise AssertionError("it asks for a lock")

    monkeypatch.setattr(fcntl, "flock", refuse)
    path = tmp_path / "socket"
    with taking_over(os.fsencode(path), "unix:x"), _bound(path, socket.SOCK_STREAM):
        SocketFile(os.fsencode(path)).remove()
    assert not path.exists()


@contextmanager
def _file_of(path: Path, kind: socket.SocketKind = socket.SOCK_STREAM) -> Iterator[SocketFile]:
    with _bound(path, kind):
        yield SocketFile(os.fsencode(path))


def test_a_socket_file_is_removed_once(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with _file_of(path) as file:
        path.chmod(0o640)  # an operator's hand on it changes nothing
        file.remove()
        assert not path.exists()
        with logged() as events:
            file.remove()
        assert events == []


def test_a_file_that_took_the_place_of_a_socket_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with _file_of(path) as file:
        path.rename(tmp_path / "moved")
        path.write_text("mine")
        file.remove()
    assert path.read_text() == "mine"


def test_a_file_that_is_no_socket_stays(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with _file_of(path) as file:
        path.unlink()
        path.write_text("mine")
        file.remove()
    assert path.read_text() == "mine"


@KINDS
@pytest.mark.parametrize("later", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_socket_that_took_the_place_of_a_socket_file_stays(
    tmp_path: Path, kind: socket.SocketKind, later: socket.SocketKind
) -> None:
    path = tmp_path / "socket"
    for _ in range(100):  # some file systems give the next file the number of the last that went
        with _file_of(path, kind) as file:
            path.unlink()
            with _bound(path, later):
                file.remove()
                assert path.is_socket()
            path.unlink()


def test_a_socket_file_that_cannot_be_removed_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "socket"

    def refuse(_path: object) -> None:
        raise PermissionError(13, "Permission denied")

    with _file_of(path) as file:
        monkeypatch.setattr(os, "unlink", refuse)
        with logged() as events:
            file.remove()
            file.remove()
        monkeypatch.undo()
    assert [(each["path"], each["reason"]) for each in events] == [(str(path), "Permission denied")]
