from __future__ import annotations

import sys
from typing import Any

import pytest
from twisted.python import usage
from twisted.scripts._twistd_unix import ServerOptions

from sockservices.twistd.command_line import (
    command_again,
    goes_to_background,
    hint,
    pid_file,
    write_no_pid_file_unasked,
)
from tests.twistd.tried import Plain, parsed_options


class Tried(usage.Options):
    """A service's options, below those of twistd, which has a last word after them."""

    optFlags = [["loud", None, ""], ["lower", None, ""]]  # noqa: RUF012

    def postOptions(self) -> None:
        write_no_pid_file_unasked(self)


class OtherProgram(usage.Options):
    """A program of somebody else's, with a service's options below its own."""

    optParameters = [["pidfile", None, "other.pid", ""]]  # noqa: RUF012
    subCommands = [["tried", None, Tried, ""]]  # noqa: RUF012


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what parses a command line as if this process had been begun by it."""
    monkeypatch.setattr(ServerOptions, "subCommands", [["tried", None, Tried, ""]])

    def begin(*arguments: str, kind: Any = ServerOptions) -> Any:
        monkeypatch.setattr(sys, "argv", ["/usr/bin/twistd", *arguments])
        monkeypatch.setattr(sys, "orig_argv", [sys.executable, "/usr/bin/twistd", *arguments])
        top = kind()
        top.parseOptions(arguments)
        return top

    return begin


def test_without_twistd_there_is_no_background() -> None:
    options = parsed_options(Plain)
    assert not goes_to_background(options)
    options.parent = usage.Options()
    assert not goes_to_background(options)


@pytest.mark.parametrize(
    ("words", "error", "text"),
    [
        (["--lound"], "option --lound not recognized", "; did you mean --loud?"),
        (["-loud"], "option -l not recognized", "; did you mean --loud?"),
        (["-lxyz"], "option -l not recognized", ""),
        (["-n"], "option -n not recognized", "; it goes before tried"),
        (["--pidfile=x"], "option --pidfile not recognized", "; it goes before tried"),
        (["--quiet"], "option --quiet not recognized", ""),
        (["--l"], "option --l not a unique prefix", ": --loud, --lower"),
        (["--loud=x"], "option --loud must not have an argument", ""),
    ],
)
def test_what_may_be_meant_is_suggested(
    begun: Any, words: list[str], error: str, text: str
) -> None:
    options = begun("tried").subOptions
    assert hint(options, error, words) == text


def test_above_all_there_is_nothing_to_go_before(begun: Any) -> None:
    top = begun("tried")
    assert hint(top, "option --pidfiles not recognized", []) == "; did you mean --pidfile?"


@pytest.mark.parametrize(
    ("arguments", "background"),
    [([], True), (["-n"], False), (["--nodaemon"], False)],
)
def test_twistd_says_whether_it_goes_to_the_background(
    begun: Any, arguments: list[str], background: bool
) -> None:
    top = begun(*arguments, "tried")
    assert goes_to_background(top.subOptions) == goes_to_background(top) == background


@pytest.mark.parametrize(
    ("arguments", "file"),
    [
        (["-n"], ""),
        (["-n", "--pidfile=x.pid"], "x.pid"),
        (["-n", "--pidfile", "twistd.pid"], "twistd.pid"),
        (["-n", "--pidfile="], ""),
        ([], "twistd.pid"),
        (["--pidfile=x.pid"], "x.pid"),
    ],
)
def test_in_the_foreground_a_pid_file_is_written_only_where_it_was_asked_for(
    begun: Any, arguments: list[str], file: str
) -> None:
    top = begun(*arguments, "tried", "--loud")
    assert top["pidfile"].rpartition("/")[2] == file
    assert pid_file(top.subOptions) == top["pidfile"]


def test_a_program_without_pid_files_has_none() -> None:
    assert pid_file(parsed_options(Plain)) == ""


def test_the_pid_file_of_another_program_is_its_own_affair(begun: Any) -> None:
    top = begun("tried", kind=OtherProgram)
    assert top["pidfile"] == "other.pid"


def test_a_program_with_options_of_its_own_around_twistds_writes_none(
    begun: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def begin() -> Any:
        monkeypatch.setattr(sys, "argv", ["program", "--no-such-option-of-twistd", "-n", "tried"])
        return ServerOptions()

    assert begun("-n", "tried", kind=begin)["pidfile"] == ""


def test_the_command_again_has_the_same_options_and_no_pid_file(begun: Any) -> None:
    top = begun("-n", "--logfile", "a b", "--pidfile=x.pid", "tried", "--loud")
    assert command_again(top.subOptions) == [
        sys.executable,
        *("/usr/bin/twistd", "-n", "--logfile", "a b", "--pidfile=x.pid"),
        *("--pidfile=", "tried", "--loud"),
    ]


def test_the_command_again_is_begun_as_this_one_was(
    begun: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = begun("-n", "tried")
    begun_as = ["python", "-W", "error", "-m", "twisted", "-n", "tried"]
    monkeypatch.setattr(sys, "orig_argv", begun_as)
    again = command_again(top.subOptions)
    assert again == [sys.executable, *begun_as[1:-1], "--pidfile=", "tried"]


def test_of_another_program_the_command_again_is_as_it_was(begun: Any) -> None:
    top = begun("tried", "--loud", kind=OtherProgram)
    assert command_again(top.subOptions) == [sys.executable, "/usr/bin/twistd", "tried", "--loud"]
