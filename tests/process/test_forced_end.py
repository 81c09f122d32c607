"""Each test has a process of its own, which is to end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time

BEGIN = """
import os, signal, sys, threading, time
from sockservices.process.forced_end import ForcedEnd
"""


def _start(code: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", BEGIN + textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _run(code: str) -> tuple[int, str]:
    with _start(code) as running:
        try:
            _out, err = running.communicate(timeout=60)
        finally:
            running.kill()
    return running.returncode, err


def test_it_ends_a_process_that_does_not_return() -> None:
    status, err = _run("""
        end = ForcedEnd(lambda: 0.1, "")
        end.begin()
        end.begin()
        while True:
            time.sleep(3600)
    """)
    assert status == 0
    assert err == "-c: exiting by force: still running: MainThread (<string>:9)\n"


def test_it_ends_a_process_whose_threads_do_not_return() -> None:
    status, err = _run("""
        def stay():
            while True: time.sleep(3600)
        for name in ("first", "second"):
            threading.Thread(target=stay, name=name).start()
        threading.Thread(target=stay, name="third", daemon=True).start()
        ForcedEnd(lambda: 0, "").begin()
    """)
    assert status == 0
    named = "first (<string>:6), second (<string>:6)"
    assert err == f"-c: exiting by force: still running: {named}\n"


def test_it_does_not_wait_for_the_log() -> None:
    status, _err = _run("""
        from twisted.logger import globalLogPublisher
        globalLogPublisher.addObserver(lambda event: threading.Event().wait())
        end = ForcedEnd(lambda: 0, "")
        end.begin(); end.hurry(); end.hurry()
        time.sleep(3600)
    """)
    assert status == 0


def test_a_hurry_is_two_seconds_at_most_and_a_second_is_at_once() -> None:
    for code in ("end.begin(); end.hurry()", "end.begin(); end.hurry(); end.hurry()"):
        status, err = _run(f"""
            end = ForcedEnd(lambda: 3600, "")
            {code}
            time.sleep(3600)
        """)
        assert status == 0
        assert "exiting by force" in err


def test_a_process_that_ends_by_itself_does_so() -> None:
    assert _run("ForcedEnd(lambda: 3600, '').begin(); sys.exit(3)") == (3, "")


def test_the_time_of_a_pause_is_left_out() -> None:
    with _start("""
        ForcedEnd(lambda: 0, "").begin()
        os.kill(os.getpid(), signal.SIGSTOP)
        print("it goes on", flush=True)
        time.sleep(0.5)
        os._exit(4)
    """) as running:
        _pid, status = os.waitpid(running.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        time.sleep(7)
        running.send_signal(signal.SIGCONT)
        assert running.communicate(timeout=60) == ("it goes on\n", "")
    assert running.returncode == 4


def test_without_cpythons_frames_it_names_no_places() -> None:
    status, err = _run("""
        del sys._current_frames
        ForcedEnd(lambda: 0, "").begin()
        while True:
            time.sleep(3600)
    """)
    assert status == 0
    assert err == "-c: exiting by force: still running: MainThread\n"
