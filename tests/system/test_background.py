"""``twistd`` without ``-n``: the command's status says whether the service listens."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.processes import (
    BIN,
    PATIENCE,
    Running,
    as_root,
    folder_for_all,
    read_all,
    run,
)


@contextlib.contextmanager
def _ended(folder: Path) -> Iterator[None]:
    """End what is started in the background meanwhile."""
    yield
    pidfile = folder / "pid"
    if pidfile.exists():
        pid = int(pidfile.read_text())
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + PATIENCE
        while pidfile.exists() and time.monotonic() < deadline:
            os.sched_yield()
        assert not pidfile.exists()


@pytest.fixture
def started(tmp_path: Path) -> Iterator[None]:
    """End what a test started in the background."""
    with _ended(tmp_path):
        yield


_TWISTD = (BIN / "twistd", "--pidfile=pid", "--logfile=log")


@pytest.mark.usefixtures("started")
@pytest.mark.parametrize("reactor", ["default", "eager"])
def test_when_the_command_returns_it_listens(tmp_path: Path, reactor: str) -> None:
    done = run(*_TWISTD, f"--reactor={reactor}", "sock-counter", "--socket=s", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "s"))
        assert read_all(client) == b"Connection 1!\n"
    assert "listening on unix:s\n" in (tmp_path / "log").read_text()


@pytest.mark.usefixtures("started")
@pytest.mark.parametrize(
    "service", [("sock-echo",), ("sock-serve", "--factory=sockservices.EchoFactory")]
)
@pytest.mark.parametrize("closed", ["<&-", "2>&-", "<&- >&- 2>&-"])
def test_it_listens_though_standard_file_descriptors_are_closed(
    tmp_path: Path, service: tuple[str, ...], closed: str
) -> None:
    closing = ("sh", "-c", f'exec "$@" {closed}', "sh")
    done = run(*closing, *_TWISTD, *service, "--socket=s", cwd=tmp_path)
    assert done.returncode == 0
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "s"))
        client.sendall(b"hello")
        assert client.recv(100) == b"hello"


@pytest.mark.usefixtures("started")
def test_the_service_manager_knows_the_process_before_the_command_returns(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        env = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
        run(*_TWISTD, "sock-echo", "--socket=s", cwd=tmp_path, env=env)
        pid = (tmp_path / "pid").read_text()
        said = manager.recv(1000).decode()
    assert said == f"READY=1\nMAINPID={pid}\nSTATUS=listening on unix:s"


@pytest.mark.parametrize("name", ["s", "s" * 90])  # twistd itself would cut the line at 100 bytes
def test_a_failure_to_listen_is_its_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("precious")
    done = run(*_TWISTD, "sock-echo", f"--socket={name}", cwd=tmp_path)
    line = (
        f"sock-echo: cannot listen on unix:{name}: "
        f"{name} exists and is not a socket; it was not changed\n"
    )
    assert done.stderr.decode() == f"twistd: {line}"
    assert (done.returncode, done.stdout) == (1, b"")
    log = (tmp_path / "log").read_text()
    assert line in log
    assert "Traceback" not in log
    assert not (tmp_path / "pid").exists()
    assert (tmp_path / name).read_text() == "precious"


def test_a_process_that_is_killed_before_it_runs_is_no_reason_to_wait(tmp_path: Path) -> None:
    (tmp_path / "killed.py").write_text(
        "import os, signal\n"
        "from twisted.internet.protocol import Factory\n"
        "class Killed(Factory):\n"
        "    def startFactory(self):\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = run(*_TWISTD, "sock-serve", "--factory=killed.Killed", "--socket=s", cwd=tmp_path)
    line = b"twistd: the service ended before it listened; see its log\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", line)


def test_a_usage_error_is_its_one_line(tmp_path: Path) -> None:
    done = run(*_TWISTD, "sock-echo", "--port=x", cwd=tmp_path)
    line = b"twistd: sock-echo: --port: 'x' is not a whole number from 0 to 65535\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, b"", line)
    assert not (tmp_path / "log").exists()


@pytest.mark.usefixtures("started")
@pytest.mark.parametrize(
    "user", [None, pytest.param("root", marks=as_root), pytest.param("nobody", marks=as_root)]
)
def test_a_pid_file_of_another_process_does_not_prevent_the_start(
    tmp_path: Path, user: str | None
) -> None:
    other_user = [] if user is None else ["setpriv", f"--reuid={user}", "--clear-groups"]
    with Running([*other_user, "sleep", "60"], tmp_path) as other:
        (tmp_path / "pid").write_text(f"{other.process.pid}")
        done = run(*_TWISTD, "sock-echo", "--socket=s", cwd=tmp_path)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
        assert int((tmp_path / "pid").read_text()) != other.process.pid
        assert (
            "removed the PID file pid: its process is not running" in (tmp_path / "log").read_text()
        )
        assert other.process.poll() is None


@pytest.mark.usefixtures("started")
def test_the_pid_file_of_a_running_service_does(tmp_path: Path) -> None:
    assert run(*_TWISTD, "sock-echo", "--socket=s", cwd=tmp_path).returncode == 0
    pid = (tmp_path / "pid").read_text()
    done = run(*_TWISTD, "sock-hello", "--socket=other", cwd=tmp_path)
    assert done.stderr.decode() == (
        f"twistd: sock-hello: process {pid} is running with the PID file pid: "
        "stop it, or pass another --pidfile\n"
    )
    assert (done.returncode, done.stdout) == (1, b"")
    assert (tmp_path / "pid").read_text() == pid


_SLOW = """
from twisted.internet import defer, reactor
from twisted.plugin import IPlugin
from twisted.internet.interfaces import IStreamServerEndpointStringParser, IStreamServerEndpoint
from twisted.internet.endpoints import TCP4ServerEndpoint
from zope.interface import implementer

@implementer(IStreamServerEndpoint)
class Slow:
    def __init__(self, outcome):
        self.outcome = outcome

    def listen(self, factory):
        from twisted.internet import reactor, task
        if self.outcome == "fails":
            return task.deferLater(reactor, 0.2, self._fail)
        return task.deferLater(reactor, 0.2, TCP4ServerEndpoint(reactor, 0).listen, factory)

    def _fail(self):
        raise RuntimeError("the far end said no")

@implementer(IPlugin, IStreamServerEndpointStringParser)
class Parser:
    prefix = "slow"

    def parseStreamServer(self, reactor, outcome):
        return Slow(outcome)

parser = Parser()
"""


def _with_slow_endpoints(tmp_path: Path) -> dict[str, str]:
    plugins = tmp_path / "more" / "twisted" / "plugins"
    plugins.mkdir(parents=True)
    (plugins / "slow.py").write_text(_SLOW.replace("defer, reactor\n", "defer\n", 1))
    return {"PYTHONPATH": str(tmp_path / "more")}


@pytest.mark.usefixtures("started")
def test_it_waits_for_an_endpoint_that_takes_its_time(tmp_path: Path) -> None:
    env = _with_slow_endpoints(tmp_path)
    done = run(*_TWISTD, "sock-hello", "--listen=slow:works", cwd=tmp_path, env=env)
    assert (done.returncode, done.stderr) == (0, b"")
    assert "sock-hello listening on tcp:" in (tmp_path / "log").read_text()


def test_and_reports_its_late_failure(tmp_path: Path) -> None:
    env = _with_slow_endpoints(tmp_path)
    done = run(*_TWISTD, "sock-hello", "--listen=slow:fails", cwd=tmp_path, env=env)
    line = b"twistd: sock-hello: cannot listen on slow:fails: RuntimeError: the far end said no "
    place = b"(more/twisted/plugins/slow.py:20)\n"
    assert (done.returncode, done.stderr) == (1, line + place)


@as_root
def test_it_binds_as_root_and_stops_as_another_user() -> None:
    with folder_for_all() as folder, _ended(folder), _network_of_its_own() as inside:
        arguments = ("--uid=nobody", "sock-hello", "--port=7", "--socket=s")
        done = run(*inside, *_TWISTD, *arguments, cwd=folder)
        assert (done.returncode, done.stderr) == (0, b"")
        pid = (folder / "pid").read_text()
        uids = re.search(r"^Uid:\t(.*)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
        assert uids
        assert set(uids[1].split()) == {str(pwd.getpwnam("nobody").pw_uid)}
        hello = run(*inside, "nc", "-N", "127.0.0.1", "7", cwd=folder)
        assert hello.stdout == b"Hello, world!\n"
        os.kill(int(pid), signal.SIGTERM)
        deadline = time.monotonic() + PATIENCE
        while (folder / "pid").exists() and time.monotonic() < deadline:
            os.sched_yield()
        log = (folder / "log").read_text()
        assert not (folder / "s").exists(), log
        assert "stopped: 0 connections finished, 0 were reset" in log
        assert "Traceback" not in log


@contextlib.contextmanager
def _network_of_its_own() -> Iterator[list[str]]:
    """Return what to put before a command, so that it has the low ports for itself."""
    with subprocess.Popen(
        ["unshare", "--net", "sh", "-c", "ip link set lo up && echo up && exec cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"up\n"
        yield ["nsenter", f"--net=/proc/{holder.pid}/ns/net"]
        assert holder.stdin is not None
        holder.stdin.close()
