from __future__ import annotations

import os
import socket
import stat
import struct
from pathlib import Path

import pytest
from twisted.internet.error import CannotListenError
from twisted.logger import formatEvent

from sockservices.transports.unix_binding import Access, bind
from tests.fakes import logged

KINDS = pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@KINDS
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777])
@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666, 0o000, 0o777])
def test_the_file_is_made_with_its_mode_whatever_the_umask(
    tmp_path: Path, kind: socket.SocketKind, umask: int, mode: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("chmod", "fchmod", "lchmod"):  # which some file systems do not have for sockets
        monkeypatch.delattr(os, name, raising=False)
    before = os.umask(umask)
    try:
        with socket.socket(socket.AF_UNIX, kind) as made, logged() as events:
            bind(made, os.fsencode(tmp_path / "s"), Access(mode))
    finally:
        assert os.umask(before) == umask
    assert _mode(tmp_path / "s") == mode
    assert events == []


def test_the_umask_is_as_before_though_the_path_cannot_be_bound(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with socket.socket(socket.AF_UNIX) as made, pytest.raises(FileNotFoundError):
            bind(made, os.fsencode(tmp_path / "none/s"), Access(0o600))
    finally:
        assert os.umask(before) == 0o027


# acl(5), linux/posix_acl_xattr.h: the version; tag, permissions and ID of each entry.
_NOTHING_FOR_OTHERS = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", tag, permissions, 0xFFFFFFFF)
    for tag, permissions in ((0x01, 7), (0x04, 7), (0x20, 0))
)


def test_a_mode_that_the_folder_does_not_allow_is_logged(tmp_path: Path) -> None:
    try:
        os.setxattr(tmp_path, "system.posix_acl_default", _NOTHING_FOR_OTHERS)
    except OSError:
        pytest.skip("this file system has no access control lists")
    with socket.socket(socket.AF_UNIX) as made, logged() as events:
        bind(made, os.fsencode(tmp_path / "s"), Access(0o666))
    assert _mode(tmp_path / "s") == 0o660
    [event] = events
    assert formatEvent(event) == (
        f"{tmp_path}/s has the mode 660 instead of 666, because of its directory"
    )


@AS_ROOT
@KINDS
@pytest.mark.parametrize(
    ("access", "ids"),
    [
        (Access(0o660, 12345, 54321), (12345, 54321)),
        (Access(0o640, owner=12345), (12345, os.getegid())),
        (Access(0o602, group=54321), (os.geteuid(), 54321)),
        (Access(0o000, group=54321), (os.geteuid(), 54321)),
    ],
)
def test_the_file_has_its_owner(
    tmp_path: Path, kind: socket.SocketKind, access: Access, ids: tuple[int, int]
) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX, kind) as made:
        file = bind(made, os.fsencode(path), access)
    found = path.lstat()
    assert (found.st_uid, found.st_gid, _mode(path)) == (*ids, access.mode)
    file.remove()
    assert not path.exists()


@AS_ROOT
def test_nobody_may_use_the_file_before_it_has_its_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes = []
    chown = os.chown

    def look(*arguments: object, **named: object) -> None:
        modes.append(_mode(tmp_path / "s"))
        chown(*arguments, **named)  # type: ignore[arg-type]
        modes.append(_mode(tmp_path / "s"))

    monkeypatch.setattr(os, "chown", look)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        bind(made, os.fsencode(tmp_path / "s"), Access(0o666, 12345))
    assert modes == [0, 0]


class _Swapping(socket.socket):
    """A socket whose file somebody replaces at once."""

    def bind(self, address: object, /) -> None:
        super().bind(address)  # type: ignore[arg-type]
        path = Path(os.fsdecode(address))  # type: ignore[arg-type]
        path.rename(path.with_name("moved"))
        os.link(path.with_name("target"), path, follow_symlinks=False)


@AS_ROOT
@pytest.mark.parametrize("target", ["file", "link", "socket"])
def test_what_somebody_has_put_in_its_place_is_not_given_away(tmp_path: Path, target: str) -> None:
    secret = tmp_path / "secret"
    secret.write_text("mine")
    secret.chmod(0o600)
    with socket.socket(socket.AF_UNIX) as other:
        if target == "socket":
            other.bind(str(tmp_path / "target"))
            (tmp_path / "target").chmod(0o600)
        elif target == "link":
            (tmp_path / "target").symlink_to(secret)
        else:
            os.link(secret, tmp_path / "target")
        with _Swapping(socket.AF_UNIX) as made, pytest.raises(CannotListenError) as caught:
            bind(made, os.fsencode(tmp_path / "s"), Access(0o666, 12345, 54321))
        assert caught.value.socketError == (
            "its file cannot be given to user 12345 and group 54321: "
            "somebody has put another file there"
        )
        for path in (secret, tmp_path / "target"):
            assert (path.lstat().st_uid, path.lstat().st_gid) == (os.geteuid(), os.getegid())
        assert _mode(secret) == 0o600


def test_a_file_that_cannot_be_given_away_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object, **_named: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "chmod", refuse)
    with socket.socket(socket.AF_UNIX) as made, pytest.raises(CannotListenError) as caught:
        bind(made, os.fsencode(tmp_path / "s"), Access(0o666, group=os.getegid()))
    assert caught.value.socketError == (
        f"its file cannot be given to group {os.getegid()}: Operation not permitted"
    )
    assert list(tmp_path.iterdir()) == []
