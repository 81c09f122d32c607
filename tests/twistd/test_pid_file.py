from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from twisted.scripts._twistd_unix import ServerOptions

from sockservices.twistd import pid_file
from sockservices.twistd.pid_file import RunningError, remove_stale_pid_file

Start = Callable[..., int]


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Return what starts a process with a command line, and returns its ID."""
    monkeypatch.setattr(sys, "argv", ["/usr/bin/twistd", "-n"])
    processes = []

    def start(*command: str, cwd: Path = tmp_path) -> int:
        # The program is a shell's script, and has words like those of Python's.
        script = tmp_path / "bin" / "twistd"
        script.parent.mkdir(exist_ok=True)
        script.write_text("echo running; read line")
        process = subprocess.Popen(
            ["sh", *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=cwd, text=True
        )
        processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
        return process.pid

    yield start
    for each in processes:
        each.communicate("\n")


def _remove(path: Path) -> None:
    remove_stale_pid_file(str(path), ServerOptions())


def test_where_there_is_no_file_there_is_nothing_to_remove(tmp_path: Path) -> None:
    _remove(tmp_path / "pid")


@pytest.mark.parametrize("options", [["--pidfile=pid"], ["--pidfile", "{folder}/pid"]])
@pytest.mark.parametrize("command", ["sock-echo", "sock-hello"])
def test_the_file_of_a_running_process_is_left(
    started: Start, tmp_path: Path, options: list[str], command: str
) -> None:
    options = [each.format(folder=tmp_path) for each in options]
    pid = started("bin/twistd", *options, command, "--port=0")
    (tmp_path / "pid").write_text(f"{pid}\n")
    with pytest.raises(RunningError, match=f"process {pid} is running with the PID file .*/pid"):
        _remove(tmp_path / "pid")
    assert (tmp_path / "pid").exists()


def test_so_is_the_one_that_twistd_writes_by_default(started: Start, tmp_path: Path) -> None:
    (tmp_path / "twistd.pid").write_text(str(started("bin/twistd", "web")))
    with pytest.raises(RunningError):
        _remove(tmp_path / "twistd.pid")


@pytest.mark.parametrize(
    "command",
    [
        ("-c", "echo running; read line"),
        ("bin/twistd", "--pidfile=other", "sock-echo", "--pidfile=pid"),
        ("bin/twistd", "--pidfile=elsewhere/pid", "sock-echo"),
        ("bin/twistd", "sock-echo"),
    ],
)
def test_another_process_may_have_the_number_by_now(
    started: Start, tmp_path: Path, command: tuple[str, ...]
) -> None:
    (tmp_path / "pid").write_text(str(started(*command)))
    _remove(tmp_path / "pid")
    assert not (tmp_path / "pid").exists()


def test_a_process_in_another_directory_has_another_file(started: Start, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    pid = started("../bin/twistd", "sock-echo", cwd=tmp_path / "other")
    (tmp_path / "twistd.pid").write_text(str(pid))
    _remove(tmp_path / "twistd.pid")
    assert not (tmp_path / "twistd.pid").exists()


@pytest.mark.parametrize("options", [["--rundir=other"], ["-d", "other"], ["--unknown"]])
def test_in_doubt_the_file_is_left(started: Start, tmp_path: Path, options: list[str]) -> None:
    (tmp_path / "other").mkdir()
    pid = started("../bin/twistd", *options, "sock-echo", cwd=tmp_path / "other")
    (tmp_path / "twistd.pid").write_text(str(pid))
    with pytest.raises(RunningError):
        _remove(tmp_path / "twistd.pid")


@pytest.mark.parametrize("content", ["", "\n", "0", "9999999", f"{2**70}"])
def test_a_number_that_no_other_process_has_is_stale(tmp_path: Path, content: str) -> None:
    (tmp_path / "pid").write_text(content)
    _remove(tmp_path / "pid")
    assert not (tmp_path / "pid").exists()


def test_the_new_process_itself_may_have_the_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", sys.orig_argv)  # so that the program is the same
    (tmp_path / "pid").write_text(str(os.getpid()))
    _remove(tmp_path / "pid")
    assert not (tmp_path / "pid").exists()


def test_a_zombie_does_not_run(tmp_path: Path) -> None:
    process = subprocess.Popen(["true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    (tmp_path / "pid").write_text(str(process.pid))
    _remove(tmp_path / "pid")
    process.wait()
    assert not (tmp_path / "pid").exists()


@pytest.mark.parametrize(
    ("can", "stale"), [(None, False), (ProcessLookupError, True), (PermissionError, True)]
)
def test_where_no_command_line_is_shown_the_user_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can: type[OSError] | None, stale: bool
) -> None:
    def kill(_pid: int, _number: int) -> None:
        if can is not None:
            raise can

    monkeypatch.setattr(pid_file.os, "kill", kill)  # type: ignore[attr-defined]
    (tmp_path / "pid").write_text("9999999")
    if stale:
        _remove(tmp_path / "pid")
    else:
        with pytest.raises(RunningError):
            _remove(tmp_path / "pid")
    assert (tmp_path / "pid").exists() != stale


@pytest.mark.parametrize("content", ["root:x:0:0", "-1", "1 2", "\udcff", "1_0"])
def test_a_file_with_something_else_is_left(tmp_path: Path, content: str) -> None:
    before = os.fsencode(content)
    (tmp_path / "pid").write_bytes(before)
    with pytest.raises(ValueError, match="is not a process ID; the file was not changed"):
        _remove(tmp_path / "pid")
    assert (tmp_path / "pid").read_bytes() == before


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pid")
    with pytest.raises(ValueError, match="not a regular file"):
        _remove(tmp_path / "pid")
