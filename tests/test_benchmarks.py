"""The parts of the benchmarks that compute and draw."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from benchmarks.comparison import CHANCE, chance, compared, enough, page
from benchmarks.entries import ENTRIES
from benchmarks.failures import MeasurementError
from benchmarks.measuring import Sample, parse_report
from benchmarks.picture import Scale, panel, picture
from benchmarks.rounds import order
from benchmarks.summary import Outcome, Row, Spread, advantage, best_peer, ratios, row, spread
from benchmarks.syscalls import total_calls
from benchmarks.table import number, ratio, table
from benchmarks.workloads import WORKLOADS, Workload

WORKLOADS_BY_NAME = {workload.name: workload for workload in WORKLOADS}
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


OUTCOMES = {
    "sockservices": Outcome(samples=_samples(30, 50), calls=2.5),
    "twisted": Outcome(samples=_samples(10, 10), calls=5.0),
    "go": Outcome(missing="not | installed"),
}


def _rows(workload: Workload = ECHO) -> list[Row]:
    return [row(workload, BY_NAME[name], OUTCOMES) for name in OUTCOMES]


def test_the_table_is_rectangular_and_has_a_row_for_all() -> None:
    text = table(ECHO, _rows())
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in lines}) == 1
    assert "| 4.00 (3.00–5.00) |" in lines[2]  # noqa: RUF001
    assert lines[3].startswith("| Twisted, stock epoll | 1 | - | 10.0 | - | 5.00 | 5.00 |")
    assert lines[4].endswith("| not \\| installed |")


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
def test_every_workload_has_its_base_and_a_table_without_figures(workload: Workload) -> None:
    serving = [entry for entry in ENTRIES if workload.serves in entry.commands]
    assert workload.base in [entry.name for entry in serving]
    assert workload.rival in [entry.name for entry in serving]
    text = table(workload, [Row(entry) for entry in serving])
    assert len({line.count("|") for line in text.splitlines() if line.startswith("|")}) == 1


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (0.00119, "0.00119"), (2.5, "2.50"), (12345.6, "12,346")]
)
def test_numbers_keep_three_digits(value: float | None, text: str) -> None:
    assert number(value) == text


def test_a_small_ratio_is_not_written_as_nothing() -> None:
    assert ratio(Spread(0.0037, 0.0, 0.2)) == "0.0037 (0.00–0.20)"  # noqa: RUF001


def test_the_best_peer_is_neither_ours_nor_c_and_depends_on_what_is_better() -> None:
    names = ("sockservices", "twisted", "uvloop", "c")
    rows = [Row(BY_NAME[name], medians={"figure": 10.0 + at}) for at, name in enumerate(names)]

    def best(workload: str) -> str | None:
        found = best_peer(WORKLOADS_BY_NAME[workload], rows)
        return found.entry.name if found else None

    assert best("echo-64") == "uvloop"
    assert best("used") == "twisted"
    assert best("datagram-64") == "c"
    assert best_peer(ECHO, [Row(BY_NAME["go"], remarks=["not installed: go"])]) is None


def test_an_advantage_is_more_than_1_whatever_is_better() -> None:
    ours, theirs = _samples(30, 50), _samples(10, 10)
    assert advantage(ECHO, ours, theirs) == Spread(4, 3, 5)
    assert advantage(WORKLOADS_BY_NAME["used"], theirs, ours) == Spread(4, 3, 5)


def test_the_picture_has_a_bar_from_1_for_each_of_ours() -> None:
    drawn = ElementTree.fromstring(picture([panel(ECHO, _rows(), OUTCOMES)]))
    svg = "{http://www.w3.org/2000/svg}"
    (one,) = drawn.findall(f".//{svg}line[@class='axis']")
    _, bar = drawn.findall(f".//{svg}rect[@class='sockservices']")  # the first is the legend's
    assert bar.get("x") == one.get("x1")
    assert float(bar.attrib["width"]) > 0
    words = [text.text for text in drawn.findall(f".//{svg}text")]
    assert "4.00 × Twisted, stock epoll" in words  # noqa: RUF001


def test_a_bar_of_ours_that_is_worse_goes_to_the_left() -> None:
    used = WORKLOADS_BY_NAME["used"]
    drawn = ElementTree.fromstring(picture([panel(used, _rows(used), OUTCOMES)]))
    svg = "{http://www.w3.org/2000/svg}"
    (one,) = drawn.findall(f".//{svg}line[@class='axis']")
    _, bar = drawn.findall(f".//{svg}rect[@class='sockservices']")
    end = float(bar.attrib["x"]) + float(bar.attrib["width"])
    assert end == pytest.approx(float(one.attrib["x1"]), abs=0.2)


def test_a_picture_of_nothing_is_xml_too() -> None:
    ElementTree.fromstring(picture([panel(ECHO, [], {})]))


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.9, 1.1, [0.5, 1, 2]),
        (0.04, 0.5, [0.02, 0.05, 0.1, 0.2, 0.5, 1, 2]),
        (1, 100, [0.5, 1, 2, 5, 10, 20, 50, 100]),
    ],
)
def test_the_axis_has_everything_and_1(low: float, high: float, ticks: list[float]) -> None:
    assert Scale.of([Spread(low, low, high)]).ticks == pytest.approx(ticks)


def test_the_chance_is_that_of_a_sign_test() -> None:
    assert chance(8, 0) == 2 / 256
    assert chance(12, 1) == pytest.approx(2 * 13 / 4096)
    assert chance(4, 2) == 1
    assert chance(0, 0) == 1


def test_how_many_rounds_must_agree() -> None:
    assert [enough(rounds) for rounds in (1, 7, 8, 12)] == [None, None, 8, 11]
    assert all(chance(rounds, rounds - (enough(rounds) or 0)) <= CHANCE for rounds in (8, 12, 40))


def _with_cpu(figures: list[float], cpu: list[float]) -> list[Sample]:
    return [
        Sample(figure, {"server_cpu_us": each}) for figure, each in zip(figures, cpu, strict=True)
    ]


def test_a_change_in_all_rounds_is_named_and_one_in_some_is_not() -> None:
    before = _with_cpu([100.0] * 8, [10.0] * 8)
    now = _with_cpu([90.0, 120.0] * 4, [8.0, 9.0] * 4)
    line, named = compared(ECHO, "sockservices", before, now)
    assert line == (
        "| `echo-64`, sockservices | messages/s | 100 | 105 | +5.0% (-10.0% to +20.0%) "
        "| **-15.0%** (-20.0% to -10.0%) |  |"
    )
    assert named == [
        "- better: `echo-64`, sockservices: CPU us/message **-15.0%** (-20.0% to -10.0%)"
    ]


def test_more_memory_is_worse() -> None:
    used = WORKLOADS_BY_NAME["used"]
    _, named = compared(used, "sockservices", _samples(*[2.0] * 8), _samples(*[3.0] * 8))
    assert named == ["- worse: `used`, sockservices: KiB/connection **+50.0%** (+50.0% to +50.0%)"]


def test_no_change_and_few_rounds_are_not_named() -> None:
    for before, now in (([2.0] * 8, [2.0] * 8), ([2.0] * 7, [3.0] * 7)):
        assert compared(ECHO, "sockservices", _samples(*before), _samples(*now))[1] == []
    assert "Nothing changed beyond the noise." in page("", [], [])


def test_a_failure_is_in_the_comparison() -> None:
    gone = [Sample(failure="gone | away")] * 2
    line, named = compared(ECHO, "sockservices", _samples(1.0, 1.0), gone)
    assert line.endswith("| - | - | - | - | gone \\| away |")
    assert named == []


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
