"""Each test has a process of its own, which forks as twistd does."""

from __future__ import annotations

import subprocess
import sys
import textwrap

BEGIN = """
import os, signal, sys
from sockservices.process.background import ForegroundReport

report = ForegroundReport()
parent = os.getpid()
child = os.fork()
"""


def _run(code: str, begin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", begin + BEGIN + textwrap.dedent(code)],
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


_AS_TWISTD = """
import os
reading, writing = os.pipe()
"""


def test_what_twistd_reports_is_left_to_twistd() -> None:
    ended = _run(
        """
        if child == 0:
            os.write(writing, b"1 why")
            os._exit(3)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        """,
        _AS_TWISTD,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "3\n", "")


def test_one_that_dies_without_a_word_is_a_failure() -> None:
    ended = _run(
        """
        if child == 0:
            os._exit(0)
        print("never")
        """,
        _AS_TWISTD,
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == "twistd: the service ended before it listened; see its log\n"


def test_one_that_dies_before_it_listens_though_it_runs_is_a_failure() -> None:
    ended = _run("""
        if child == 0:
            from twisted.internet import reactor
            reactor.callWhenRunning(os._exit, 0)
            reactor.run()
        print("never")
    """)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == "twistd: the service ended before it listened; see its log\n"


def test_a_failure_that_cannot_be_shown_is_one_all_the_same() -> None:
    ended = _run(
        """
        if child == 0:
            report.failed("port 7 is taken")
            os._exit(0)
        print("never")
    """,
        begin="import os; os.dup2(os.open('/', os.O_RDONLY), 2)",
    )
    assert (ended.returncode, ended.stdout) == (1, "")


def test_ctrl_c_ends_the_command_but_not_the_service() -> None:
    ended = _run("""
        if child == 0:
            while open(f"/proc/{parent}/stat").read().split()[2] != "S":  # it does not wait yet
                os.sched_yield()
            os.kill(parent, signal.SIGINT)
            os.close(2)
            os.open(os.devnull, os.O_WRONLY)
            while os.getppid() == parent:
                os.sched_yield()
            report.failed("it is too late to say why")  # and does not fail itself
            os.write(1, b"it went on")
            os._exit(0)
        print("never")
    """)
    assert (ended.returncode, ended.stdout) == (130, "it went on")
    assert ended.stderr == "twistd: interrupted; the service goes on in the background\n"


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
    ended = _run(
        """
        if child == 0:
            os.write(writing, b"1 why")
            os._exit(0)
        reading, writing = os.pipe()
        if os.fork() == 0:  # another child, such as a helper of the program
            os.read(reading, 1)
            os._exit(0)
        os.write(writing, b"x")
        print("not waited for")
        """,
        _AS_TWISTD,
    )
    assert (ended.returncode, ended.stdout) == (0, "not waited for\n")
