"""Each test has a process of its own, which forks as twistd does."""

from __future__ import annotations

import subprocess
import sys
import textwrap

BEGIN = """
import os, sys
from sockservices.process.background import ForegroundReport

report = ForegroundReport()
child = os.fork()
"""


def _run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BEGIN + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_foreground_goes_on_when_the_background_listens_though_it_lives() -> None:
    ended = _run("""
        if child == 0:
            from twisted.internet import reactor
            report.listening()
            reactor.callWhenRunning(sys.stdin.read)
            reactor.callWhenRunning(reactor.stop)
            reactor.run()
            print("ended in order", flush=True)
            os._exit(0)
        print("it listens", flush=True)
    """)
    assert ended.returncode == 0
    assert "it listens" in ended.stdout
    assert ended.stderr == ""


def test_why_it_cannot_listen_is_one_line_of_the_foreground_and_its_status() -> None:
    ended = _run("""
        if child == 0:
            os.close(2)  # as twistd does in the background
            os.open(os.devnull, os.O_WRONLY)
            report.failed("port 7 is taken \\N{SNOWMAN}")
            os._exit(0)
        print("never")
    """)
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert ended.stderr == "twistd: port 7 is taken \N{SNOWMAN}\n"


def test_one_that_dies_without_a_word_is_left_to_twistds_own_report() -> None:
    ended = _run("""
        if child == 0:
            os._exit(3)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "3\n", "")


def test_a_line_that_is_too_long_is_cut() -> None:
    ended = _run("""
        if child == 0:
            os.close(2)
            os.open(os.devnull, os.O_WRONLY)
            report.failed("x" * 10_000)
            os._exit(0)
    """)
    assert ended.returncode == 1
    assert ended.stderr == f"twistd: {'x' * 4096}\n"


def test_only_the_first_fork_of_the_first_process_is_waited_for() -> None:
    ended = _run("""
        if child == 0:
            if os.fork() == 0:  # twistd's second, which lives on
                os._exit(0)
            report.failed("it is over")
            os._exit(0)
    """)
    assert ended.returncode == 1
    ended = _run("""
        if child == 0:
            os._exit(0)
        reading, writing = os.pipe()
        if os.fork() == 0:  # another child, such as a helper of the program
            os.read(reading, 1)
            os._exit(0)
        os.write(writing, b"x")
        print("not waited for")
    """)
    assert (ended.returncode, ended.stdout) == (0, "not waited for\n")
