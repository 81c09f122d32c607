"""The parts of the benchmarks that compute and draw."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from benchmarks.entries import ENTRIES
from benchmarks.failures import MeasurementError
from benchmarks.measuring import Sample, parse_report
from benchmarks.picture import panel, picture, tick_step
from benchmarks.rounds import order
from benchmarks.summary import Outcome, Row, Spread, ratios, row, spread
from benchmarks.syscalls import total_calls
from benchmarks.table import number, ratio, table
from benchmarks.workloads import WORKLOADS, Workload

BY_NAME = {entry.name: entry for entry in ENTRIES}
ECHO = WORKLOADS[0]

TABLE = """\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 60.00    0.000600           3       200           sendto
 40.00    0.000400           2       202         2 recvfrom
------ ----------- ----------- --------- --------- ----------------
100.00    0.001000           2       402         2 total
"""


def _samples(*figures: float) -> list[Sample]:
    return [Sample(figure, {"server_cpu_us": figure / 2}) for figure in figures]


def test_ratios_are_taken_within_rounds() -> None:
    assert ratios(_samples(20, 90, 300), _samples(10, 30, 200)) == Spread(2.0, 1.5, 3.0)


def test_a_round_in_which_either_failed_does_not_count() -> None:
    failed = Sample(failure="gone")
    assert ratios([*_samples(20), failed, *_samples(9)], [*_samples(10, 1), failed]) == Spread(
        2, 2, 2
    )
    assert ratios([failed], [failed]) is None
    assert spread([]) is None


def test_a_row_has_ratios_medians_and_remarks() -> None:
    outcomes = {
        "sockservices": Outcome(samples=[*_samples(30, 50), Sample(failure="gone")], calls=2.5),
        "twisted": Outcome(samples=_samples(10, 10, 10), calls="not installed: strace"),
        "go": Outcome(missing="not installed: go"),
    }
    ours = row(ECHO, BY_NAME["sockservices"], outcomes)
    assert ours.ratios == {"twisted": Spread(4, 3, 5)}
    assert ours.medians == {"figure": 40, "server_cpu_us": 20}
    assert (ours.calls, ours.remarks) == (2.5, ["failed in 1 of 3 rounds: gone"])
    stock = row(ECHO, BY_NAME["twisted"], outcomes)
    assert (stock.calls, stock.remarks) == (
        None,
        ["system calls not counted: not installed: strace"],
    )
    assert row(ECHO, BY_NAME["go"], outcomes).remarks == ["not installed: go"]


def _rows() -> list[Row]:
    outcomes = {
        "sockservices": Outcome(samples=_samples(30, 50), calls=2.5),
        "twisted": Outcome(samples=_samples(10, 10), calls=5.0),
        "go": Outcome(missing="not | installed"),
    }
    return [row(ECHO, BY_NAME[name], outcomes) for name in outcomes]


def test_the_table_is_rectangular_and_has_a_row_for_all() -> None:
    text = table(ECHO, "Title", _rows())
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in lines}) == 1
    assert "| 4.00 (3.00–5.00) |" in lines[2]  # noqa: RUF001
    assert lines[3].startswith("| Twisted, stock epoll | 1 | - | 10.0 | - | 5.00 | 5.00 |")
    assert lines[4].endswith("| not \\| installed |")


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
def test_every_workload_has_its_base_and_a_table_without_figures(workload: Workload) -> None:
    serving = [entry for entry in ENTRIES if workload.serves in entry.commands]
    assert workload.base in [entry.name for entry in serving]
    text = table(workload, workload.title, [Row(entry) for entry in serving])
    assert len({line.count("|") for line in text.splitlines() if line.startswith("|")}) == 1


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (0.00119, "0.00119"), (2.5, "2.50"), (12345.6, "12,346")]
)
def test_numbers_keep_three_digits(value: float | None, text: str) -> None:
    assert number(value) == text


def test_a_small_ratio_is_not_written_as_nothing() -> None:
    assert ratio(Spread(0.0037, 0.0, 0.2)) == "0.0037 (0.00–0.20)"  # noqa: RUF001


def test_the_picture_is_xml_with_a_bar_for_each_ratio_from_zero() -> None:
    drawn = ElementTree.fromstring(picture([panel(ECHO, _rows())]))
    bars = drawn.findall(".//{http://www.w3.org/2000/svg}rect")
    assert [bar.get("class") for bar in bars] == ["ours", "other"]
    ours, stock = (float(bar.attrib["width"]) for bar in bars)
    assert ours == pytest.approx(4 * stock, rel=0.01)
    assert len({bar.get("x") for bar in bars}) == 1


def test_a_picture_of_nothing_is_xml_too() -> None:
    ElementTree.fromstring(picture([panel(ECHO, [])]))


@pytest.mark.parametrize("highest", [0.003, 0.9, 1.0, 3.2, 8.0, 300.0])
def test_ticks_are_few_and_round(highest: float) -> None:
    step = tick_step(highest)
    assert 1 <= highest / step <= 8
    assert f"{step:e}"[0] in "125"


def test_the_total_of_strace_is_found_whichever_columns_are_empty() -> None:
    assert total_calls(TABLE) == 402
    assert (
        total_calls(TABLE.replace("  2       402         2 total", "          402           total"))
        == 402
    )
    with pytest.raises(MeasurementError):
        total_calls("")


def test_a_report_is_completed_with_the_cost_of_an_operation() -> None:
    told = (
        '{"operations": 100, "seconds": 2, "server_cpu_seconds": 1, "errors": 0, "first_error": ""}'
    )
    report = parse_report(told)
    assert (report["server_busy"], report["server_cpu_us"]) == (0.5, 10_000)


@pytest.mark.parametrize(
    ("operations", "errors", "says"), [(5, 2, "2 errors.*bad"), (0, 0, "no operation")]
)
def test_a_report_of_errors_or_of_nothing_is_a_failure(
    operations: int, errors: int, says: str
) -> None:
    told = f'{{"operations": {operations}, "errors": {errors}, "first_error": "bad"}}'
    with pytest.raises(MeasurementError, match=says):
        parse_report(told)


def test_each_round_has_everyone_in_another_order() -> None:
    orders = [[entry.name for entry in order(ENTRIES, each)] for each in range(3)]
    assert all(sorted(each) == sorted(BY_NAME) for each in orders)
    assert orders[0] != orders[1] != orders[2]
    assert orders[0] == [entry.name for entry in order(ENTRIES, 0)]
