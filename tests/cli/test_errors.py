from __future__ import annotations

from typing import Any

import click
import pytest

from sockservices.cli.errors import CouldNot, Seconds
from tests.cli.running import run


@click.command("try")
@click.option("--pause", type=Seconds(), default=0.0)
@click.option("--patience", type=Seconds(min_open=True))
def tried(pause: float, patience: float | None) -> None:
    if pause == 7:
        raise CouldNot("seven is too long")
    click.echo(f"{pause} {patience}")


def test_what_could_not_be_done_is_one_line_and_status_1() -> None:
    status, printed, said = run(tried, "--pause=7")
    assert (status, printed) == (1, "")
    assert said.count("\n") == 1
    assert "seven is too long" in said


def test_it_knows_the_command_that_it_ends() -> None:
    with click.Context(tried, info_name="try"):
        error = CouldNot("anything")
    assert error.ctx is not None
    assert error.ctx.command_path == "try"
    assert CouldNot("anything").ctx is None
    assert CouldNot("anything").exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        ([], "0.0 None\n"),
        (["--pause=0"], "0.0 None\n"),
        (["--pause=0.25", "--patience=3"], "0.25 3.0\n"),
        (["--patience=1e6"], "0.0 1000000.0\n"),
    ],
)
def test_seconds_are_numbers_that_are_not_negative(arguments: list[str], printed: str) -> None:
    assert run(tried, *arguments) == (0, printed, "")


@pytest.mark.parametrize(
    "argument",
    [
        *("--pause=-1", "--pause=nan", "--pause=inf", "--pause=1e7", "--pause=soon", "--pause="),
        *("--patience=0", "--patience=-0.1", "--patience=nan"),
    ],
)
def test_others_are_a_usage_error(argument: str) -> None:
    status, printed, said = run(tried, argument)
    assert (status, printed) == (2, "")
    assert argument.partition("=")[0] in said


def test_seconds_are_shown_as_such_in_the_help() -> None:
    kind: Any = Seconds()
    assert kind.name == "seconds"
