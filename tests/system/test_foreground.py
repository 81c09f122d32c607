"""``twistd -n``: whoever runs a service in the foreground knows its process."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system.processes import BIN, Running, as_root, run

LISTENS = r"listening on (\S+)\n"


@pytest.mark.parametrize("option", [None, "--pidfile=twistd.pid", "--pidfile=other.pid"])
def test_a_pid_file_is_written_only_if_it_is_asked_for(tmp_path: Path, option: str | None) -> None:
    options = [] if option is None else [option]
    with Running([BIN / "twistd", "-n", *options, "sock-echo", "--socket=s"], tmp_path) as service:
        service.out.wait_for(LISTENS)
        files = {each.name: int(each.read_text()) for each in tmp_path.glob("*.pid")}
        assert files == {each.partition("=")[2]: service.process.pid for each in options}
        assert service.stop() == 0


@as_root
def test_a_container_whose_service_was_killed_starts_again(tmp_path: Path) -> None:
    """The service has the same process ID each time."""
    container = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
    for _time in range(2):
        with Running([*container, BIN / "twistd", "-n", "sock-echo", "--socket=s"], tmp_path) as it:
            it.out.wait_for(LISTENS)
            it.process.kill()
            it.out.whole()


@as_root
def test_it_runs_where_nothing_can_be_written(tmp_path: Path) -> None:
    with Running([*_read_only(), "-n", "sock-echo", "--port=0"], tmp_path) as service:
        service.out.wait_for(LISTENS)
        assert service.stop() == 0
        assert service.err.whole() == ""


def _read_only() -> list[str | Path]:
    """Return the beginning of a command that runs twistd where it cannot write."""
    read_only = "mount --bind . . && mount -o remount,ro,bind . && cd $PWD && ! touch x 2>&-"
    return ["unshare", "--mount", "sh", "-c", f'{read_only} && exec "$0" "$@"', BIN / "twistd"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--logfile=no/log"], "--logfile: no/log: the directory {cwd}/no does not exist"),
        (["--logfile=file/log"], "--logfile: file/log: Not a directory"),
        (["--logfile=."], "--logfile: .: Is a directory"),
        (["--pidfile=no/pid"], "--pidfile: no/pid: the directory {cwd}/no does not exist"),
        (["--pidfile=/dev/null"], "--pidfile: /dev/null: not a regular file; --pidfile= writes "),
        (["--pidfile=text"], "--pidfile: text: 'precious' is not a process ID; the file was not "),
        (["--rundir=no"], "--rundir: no: No such file or directory"),
        (["--chroot=no"], "--chroot: no: No such file or directory"),
        pytest.param(
            ["--chroot=.", "--pidfile=/pid/x"],
            "--pidfile: ./pid/x: the directory {cwd}/pid does not exist",
            marks=as_root,
        ),
        pytest.param(
            ["--chroot=.", "--rundir=/no", "--pidfile="],
            "--rundir: ./no: No such file or directory",
            marks=as_root,
        ),
    ],
)
@pytest.mark.parametrize("foreground", [True, False])
def test_a_path_that_cannot_be_used_is_one_line(
    tmp_path: Path, options: list[str], reason: str, foreground: bool
) -> None:
    (tmp_path / "text").write_text("precious")
    (tmp_path / "file").touch()
    place = "-n" if foreground else "--logfile=log"
    done = run(BIN / "twistd", place, *options, "sock-echo", "--socket=s", cwd=tmp_path)
    said = done.stderr.decode()
    assert said.startswith(f"twistd: sock-echo: {reason.format(cwd=tmp_path)}")
    assert said.count("\n") == 1
    assert (done.returncode, done.stdout) == (2, b"")
    assert {each.name for each in tmp_path.iterdir()} == {"text", "file"}
    assert (tmp_path / "text").read_text() == "precious"


@as_root
@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--pidfile=p"], "--logfile: twistd.log: the directory . is not writable: Read-only"),
        (["--syslog"], "--pidfile: twistd.pid: the directory . is not writable: Read-only"),
        (["-n", "--pidfile=old"], "--pidfile: old: Read-only file system"),
        (["-n", "--logfile=old"], "--logfile: old: Read-only file system"),
    ],
)
def test_so_is_one_on_a_read_only_file_system(
    tmp_path: Path, options: list[str], reason: str
) -> None:
    (tmp_path / "old").write_text("1")
    done = run(*_read_only(), *options, "sock-echo", "--socket=s", cwd=tmp_path)
    said = done.stderr.decode().replace(str(tmp_path), ".")
    assert said.startswith(f"twistd: sock-echo: {reason}")
    assert said.count("\n") == 1
    assert done.returncode == 2
