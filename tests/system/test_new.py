"""``sockservices new``: what it makes works with no edit."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.system.processes import BIN, Service, run

TESTS = (sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider")


@pytest.mark.parametrize("kind", ["stream", "datagram"])
def test_its_tests_pass_and_twistd_runs_it(tmp_path: Path, kind: str) -> None:
    options = ["--datagram"] if kind == "datagram" else []
    done = run(BIN / "sockservices", "new", "my_shout", *options, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"cd my_shout\n" in done.stdout
    project = tmp_path / "my_shout"
    path = {"PYTHONPATH": str(project)}  # in place of an installation
    passed = run(*TESTS, cwd=project, env=path)
    assert passed.returncode == 0, passed.stdout.decode()
    assert b"twistd -n my_shout --port 7000" in done.stdout
    with Service("my_shout", "--port=0", "--interface=127.0.0.1", cwd=tmp_path, env=path) as shout:
        peer = "udp" if options else "tcp"
        assert shout.where[0].startswith(f"{peer}:127.0.0.1:")
    checked = run(BIN / "sockservices", "check", "my_shout", cwd=tmp_path, env=path)
    assert (checked.returncode, checked.stdout) == (0, b"my_shout: nothing found\n")


def test_of_an_entry_point_there_is_no_plugin_file(tmp_path: Path) -> None:
    run(BIN / "sockservices", "new", "shout", "--entry-point", cwd=tmp_path)
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert "shout/shout/declaration.py" in files
    assert not any("plugins" in file for file in files)
    project = (tmp_path / "shout/pyproject.toml").read_text()
    assert 'shout = "shout.declaration:shout"\n' in project
    assert 'packages = ["shout"]\n' in project
    assert "twistd -n sock shout --port 7000" in (tmp_path / "shout/README.md").read_text()


def test_no_gap_is_left(tmp_path: Path) -> None:
    for options in ([], ["--datagram"], ["--entry-point"]):
        name = f"a{len(options)}{options[0][2] if options else ''}"
        run(BIN / "sockservices", "new", name, *options, cwd=tmp_path)
        files = [path for path in (tmp_path / name).rglob("*") if path.is_file()]
        assert len(files) >= 7
        for path in files:
            assert "@@" not in path.read_text() + str(path)


NO_NAME = "is not a usable package name: choose one like shout or my_chat, of at most 60 characters"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        *((name, f"'{name}' {NO_NAME}") for name in ("a-b", "2x", "Shout", "_x", "x_", "__main__")),
        ("a" * 61, f"'{'a' * 61}' {NO_NAME}"),
        ("dist", "'dist' is a directory that every project has"),
        ("tests", "'tests' is a directory that every project has"),
        ("class", "'class' is a Python keyword"),
        ("match", "'match' is a Python keyword"),
        ("json", "a module named 'json' already exists: the new package would hide it"),
        ("echo", "a service named 'echo' already exists"),
        ("web", "a service named 'web' already exists"),
        ("occupied", "occupied already exists; it was not changed"),
        ("dangling", "dangling already exists; it was not changed"),
    ],
)
def test_a_bad_name_is_one_line(tmp_path: Path, name: str, why: str) -> None:
    (tmp_path / "occupied").mkdir()
    (tmp_path / "dangling").symlink_to("nowhere")
    done = run(BIN / "sockservices", "new", name, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.decode() == f"sockservices new: {why}\n"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["dangling", "occupied"]


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run(BIN / "sockservices", "new", "shout", cwd=Path("/proc/self"))
    assert done.returncode == 1
    assert done.stderr.decode().startswith("sockservices new: shout: ")
    assert done.stderr.count(b"\n") == 1


def test_one_that_cannot_be_finished_leaves_nothing(tmp_path: Path) -> None:
    # No file of more than one block: what comes next fails as on a full disk.
    command = f"ulimit -f 1; exec '{BIN}/sockservices' new shout"
    done = run("bash", "-c", command, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.decode().startswith("sockservices new: shout: ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["none", "factory", "any"])
def test_a_name_may_be_that_of_something_in_python(tmp_path: Path, name: str) -> None:
    assert run(BIN / "sockservices", "new", name, cwd=tmp_path).returncode == 0
    project = tmp_path / name
    tests = (BIN / "pytest", "-q", "-n", "0", "-k", "not command")
    done = run(*tests, cwd=project, env={"PYTHONPATH": str(project)})
    assert done.returncode == 0, done.stdout.decode()
