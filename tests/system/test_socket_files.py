"""The files of Unix sockets: their modes, and file systems and directories that are special."""

from __future__ import annotations

import errno
import os
import pwd
import re
import signal
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.system.processes import (
    BIN,
    PATIENCE,
    TWISTD,
    Running,
    Service,
    as_root,
    folder_for_all,
    needs,
    read_all,
    run,
)

KINDS = pytest.mark.parametrize("kind", ["unix", "unixgram"])
_CHANGES = "chmod,fchmod,fchmodat,chown,fchown,lchown,fchownat"


@contextmanager
def _traced(folder: Path, *tracing: str, arguments: tuple[str, ...]) -> Iterator[Running]:
    """Run a service under strace, which writes to ``calls``; stop it in the end."""
    tracer = ("strace", "-f", "-o", str(folder / "calls"), *tracing)
    with Running([*tracer, *TWISTD, "sock-echo", *arguments], folder) as traced:
        traced.err.wait_for("listening on")
        yield traced
        # The tracer ends with what it traces, but passes no signal on.
        os.kill(int((folder / "calls").read_text().split()[0]), signal.SIGTERM)
        assert traced.wait() == 0
        assert "Traceback" not in traced.err.text


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@needs("strace")
@KINDS
@pytest.mark.parametrize("mode", ["600", "666"])
def test_a_socket_file_is_made_with_its_mode_and_changed_no_more(
    tmp_path: Path, kind: str, mode: str
) -> None:
    """At no moment may more peers connect, and a link put there meanwhile leads to no harm."""
    tracing = ("-e", f"trace=bind,{_CHANGES}", "-e", f"inject={_CHANGES}:error=EINVAL")
    with _traced(tmp_path, *tracing, arguments=(f"--listen={kind}:s:mode={mode}",)) as service:
        assert _mode(tmp_path / "s") == int(mode, 8)
        assert "instead of" not in service.err.text
    calls = (tmp_path / "calls").read_text()
    assert 'sun_path="s"' in calls
    assert not re.search("ch(mod|own)", calls)
    assert not (tmp_path / "s").exists()


@needs("strace")
@KINDS
@pytest.mark.parametrize("reason", [errno.EBADF, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_directory_without_locks_has_sockets_all_the_same(
    tmp_path: Path, kind: str, reason: int
) -> None:
    inject = f"inject=flock:error={reason}"
    tracing = ("-e", "trace=flock", "-e", inject)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stale:
        stale.bind(str(tmp_path / "s"))
    with _traced(tmp_path, *tracing, arguments=(f"--listen={kind}:s",)) as service:
        said = f"going on without a lock on the directory of s: {os.strerror(reason)}"
        service.err.wait_for(re.escape(said))
    assert service.err.text.count("without a lock") == 1
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("options", [[], ["--stock-transports"]])
def test_a_socket_behind_haproxy_has_its_mode_too(tmp_path: Path, options: list[str]) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(tmp_path / "a"))
    listeners = ("--listen=haproxy:unix:a", "--listen=haproxy:unix:b:660")
    with Service("sock-hello", *listeners, "--mode=640", *options, cwd=tmp_path) as hello:
        assert (_mode(tmp_path / "a"), _mode(tmp_path / "b")) == (0o640, 0o660)
        for path in ("a", "b"):
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(PATIENCE)
                client.connect(str(tmp_path / path))
                client.sendall(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n")
                assert read_all(client) == b"Hello, world!\n"
        assert hello.stop() == 0
        assert "Traceback" not in hello.err.text
    assert {path.name for path in tmp_path.iterdir()}.isdisjoint({"a", "b", "a.lock", "b.lock"})


_OWNERS = ("--socket-owner=nobody", "--socket-group=4321", "--mode=660")


def _ids(path: Path) -> tuple[int, int, int]:
    found = path.lstat()
    return found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)


@as_root
@pytest.mark.parametrize("options", [[], ["--stock-transports"], ["--reload"]])
def test_the_files_have_their_owner_and_their_group(tmp_path: Path, options: list[str]) -> None:
    nobody = pwd.getpwnam("nobody").pw_uid
    listeners = ("--socket=a", "--listen=unixgram:b", "--listen=unix:c:group=5432:owner=0:mode=606")
    with Service("sock-echo", *listeners, *_OWNERS, *options, cwd=tmp_path) as echo:
        assert _ids(tmp_path / "a") == _ids(tmp_path / "b") == (nobody, 4321, 0o660)
        assert _ids(tmp_path / "c") == (0, 5432, 0o606)
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(PATIENCE)
            client.connect(str(tmp_path / "a"))
            client.sendall(b"hello")
            assert client.recv(100) == b"hello"
        assert echo.stop() == 0
    assert {"a", "b", "c"}.isdisjoint(path.name for path in tmp_path.iterdir())


@as_root
def test_a_socket_behind_haproxy_has_its_owner_too(tmp_path: Path) -> None:
    with Service("sock-hello", "--listen=haproxy:unix:a", *_OWNERS, cwd=tmp_path):
        assert _ids(tmp_path / "a")[1:] == (4321, 0o660)


@as_root
@needs("strace")
@KINDS
def test_nobody_can_connect_before_the_file_has_its_owner(tmp_path: Path, kind: str) -> None:
    """A stream can be connected to after listen(2), a datagram sent if the mode allows it."""
    tracing = ("-e", f"trace=bind,umask,listen,{_CHANGES}")
    with _traced(tmp_path, *tracing, arguments=(f"--listen={kind}:s", *_OWNERS)):
        pass
    calls = (tmp_path / "calls").read_text()
    order = [r"umask\(0777\)", 'bind.*sun_path="s"', r"chown\(.*65534, 4321", r"chmod\(.*0660\)"]
    if kind == "unix":
        order.append(r"listen\(")
    assert re.search(".*".join(order), calls, re.DOTALL)
    assert not re.search(r'ch(own|mod)(at)?\((AT_FDCWD, )?"s"', calls)


@as_root
@needs("unshare")
def test_without_proc_no_file_is_given_away(tmp_path: Path) -> None:
    hidden = 'mount -t tmpfs tmpfs /proc && exec "$@"'
    apart = ("unshare", "--mount", "sh", "-c", hidden, "sh")
    twistd = (BIN / "twistd", "-n", "--logfile=log", "sock-echo")
    done = run(*apart, *twistd, "--socket=s", "--socket-owner=1", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.decode().endswith(
        ": its file cannot be given to user 1: /proc is not mounted, and is needed\n"
    )
    assert not (tmp_path / "s").exists()


@as_root
@needs("setpriv")
@KINDS
def test_who_may_not_give_files_away_is_told_in_one_line(kind: str) -> None:
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    twistd = (BIN / "twistd", "-n", "--logfile=log", "sock-echo")
    with folder_for_all() as folder:
        done = run(*nobody, *twistd, f"--listen={kind}:s", "--socket-owner=root", cwd=folder)
        assert not (folder / "s").exists()
    assert done.returncode == 1
    assert done.stderr.decode() == (
        f"twistd: sock-echo: cannot listen on {kind}:s: its file cannot be given to user 0: "
        "Operation not permitted\n"
    )


@pytest.mark.parametrize(
    ("arguments", "status", "line"),
    [
        (
            ["--port=0", "--socket-group=0"],
            1,
            "--socket-group goes with a Unix path listener, and sock-echo has none",
        ),
        (
            ["--listen=unix:abstract=x", "--socket-owner=0", "--reload"],
            1,
            "--socket-owner goes with a Unix path listener, and sock-echo has none",
        ),
        (
            ["--listen=unixgram:abstract=x:group=0"],
            1,
            "in 'unixgram:abstract=x:group=0', group: an abstract name has no file",
        ),
        (["--socket=s", "--socket-owner=no one"], 2, "--socket-owner: there is no user 'no one'"),
        (["--listen=unix:s:owner=x y"], 1, "in 'unix:s:owner=x y', owner: there is no user 'x y'"),
    ],
)
def test_an_owner_that_cannot_be_is_refused(
    tmp_path: Path, arguments: list[str], status: int, line: str
) -> None:
    done = run(BIN / "twistd", "-n", "--logfile=log", "sock-echo", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stderr.decode()) == (status, f"twistd: sock-echo: {line}\n")
