"""The files of Unix sockets: their modes, and file systems and directories that are special."""

from __future__ import annotations

import errno
import os
import re
import signal
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.system.processes import PATIENCE, TWISTD, Running, Service, needs, read_all

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
