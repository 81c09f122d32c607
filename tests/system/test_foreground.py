"""``twistd -n``: whoever runs a service in the foreground knows its process."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system.processes import BIN, Running, as_root

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
    read_only = "mount --bind . . && mount -o remount,ro,bind . && cd $PWD && ! touch x"
    script = f'{read_only} && exec "$0" -n sock-echo --port 0'
    with Running(["unshare", "--mount", "sh", "-c", script, BIN / "twistd"], tmp_path) as service:
        service.out.wait_for(LISTENS)
        assert "Read-only file system" in service.err.text
        assert service.stop() == 0
