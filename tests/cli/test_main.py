from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import click
import pytest

from sockservices.cli import main
from sockservices.cli.errors import CouldNot
from sockservices.cli.main import command

Run = Callable[..., int]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return what runs the command with these arguments, and returns its exit status."""

    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["sockservices", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        assert isinstance(caught.value.code, int)
        return caught.value.code

    return run


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """Return what the subcommand ``fail`` raises, to be filled."""
    raised: list[BaseException] = []

    @click.command("fail")
    def fail() -> None:
        raise raised[0]

    monkeypatch.setitem(command.commands, "fail", fail)
    return raised


def test_all_subcommands_are_there_with_a_line_of_help(run: Run) -> None:
    assert set(command.commands) == {"list", "send", "connect", "new", "check", "refresh"}
    for each in command.commands.values():
        assert each.get_short_help_str()


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_is_printed_and_done(
    run: Run, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(option) == 0
    shown = capsys.readouterr()
    assert "refresh" in shown.out
    assert shown.err == ""


def test_the_version_is_that_of_the_package(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out.startswith("sockservices")


def test_without_a_subcommand_the_help_is_an_error(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run() == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "refresh" in shown.err


@pytest.mark.parametrize(
    "arguments", [["nothing"], ["--nothing"], ["send"], ["send", "x", "y", "z"]]
)
def test_a_usage_error_is_one_line_and_status_2(
    run: Run, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("sockservices")
    assert shown.err.count("\n") == 1


def test_what_could_not_be_done_is_one_line_that_names_the_subcommand(
    run: Run, failing: list[BaseException], capsys: pytest.CaptureFixture[str]
) -> None:
    failing.append(CouldNot("first\nsecond \x1b[0m \\x"))
    failing[0].ctx = click.Context(  # type: ignore[attr-defined]
        command.commands["fail"], info_name="fail", parent=click.Context(command, info_name="it")
    )
    assert run("fail") == 1
    assert capsys.readouterr().err == "it fail: first second \\x1b[0m \\x\n"


@pytest.mark.parametrize(
    ("error", "status"), [(KeyboardInterrupt(), 130), (click.Abort(), 130), (CouldNot("x"), 1)]
)
def test_each_end_has_its_status(
    run: Run, failing: list[BaseException], error: BaseException, status: int
) -> None:
    failing.append(error)
    assert run("fail") == status


def test_what_nobody_reads_any_more_is_no_complaint(
    run: Run, failing: list[BaseException], capfd: pytest.CaptureFixture[str]
) -> None:
    kept = os.dup(1)
    try:
        failing.append(BrokenPipeError())
        assert run("fail") == 1
        assert os.fstat(1).st_rdev == os.stat(os.devnull).st_rdev
    finally:
        os.dup2(kept, 1)
        os.close(kept)
    assert capfd.readouterr().err == ""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a file that is always full")
@pytest.mark.parametrize(
    "command",
    [
        ("-m", "sockservices", "list"),
        ("-m", "sockservices", "--version"),
        ("-m", "twisted", "sock-echo", "--help"),
        ("-m", "twisted", "sock-echo", "--version"),
    ],
)
def test_a_full_disk_is_one_line(command: tuple[str, ...]) -> None:
    with open("/dev/full", "wb") as full:
        ended = subprocess.run(
            [sys.executable, *command], stdout=full, stderr=subprocess.PIPE, check=False, timeout=60
        )
    assert ended.returncode == 1
    name = command[1]
    reason = "cannot write to standard output: No space left on device"
    assert ended.stderr.decode() == f"{name}: {reason}\n"


def test_what_is_closed_at_the_start_is_not_taken_by_another_file() -> None:
    code = (
        "import os, sys\n"
        "from sockservices.cli.main import main\n"
        "sys.argv = ['sockservices', '--version']\n"
        "for fd in (0, 2): os.close(fd)\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print([os.fstat(fd).st_rdev == os.stat(os.devnull).st_rdev for fd in (0, 2)])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "[True, True]"
