"""Runs tests on a reactor in a process of their own, and ends it when it hangs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from tests.twisted_suites.outcomes import Outcome, gather

CHILD = Path(__file__).with_name("child.py")

ACCELERATED = "+fast"
"""What follows the name of a reactor if the accelerator is to be in use."""

QUIET_SECONDS = 60.0
"""After this long without an event the running test hangs. The slowest test takes 7 s."""

MOST_SECONDS = 600.0
"""The longest that one process may take; the slowest suite takes 80 s."""

MOST_STOPS = 5
"""After so many tests that hang or end the process, the rest is not run."""


def read(record: Path) -> list[dict[str, Any]]:
    """Read the events; a last line that was cut short is none."""
    lines = record.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def watch(process: subprocess.Popen[bytes], record: Path, quiet: float) -> str:
    """Wait for the end of ``process`` and say what it was.

    :param quiet: seconds without a new event after which the process is killed.
    :returns: empty for an end in order, else a verdict.
    """
    began = changed = time.monotonic()
    size = 0
    while True:
        try:
            status = process.wait(0.1)
        except subprocess.TimeoutExpired:
            now = time.monotonic()
            if record.stat().st_size != size:
                size, changed = record.stat().st_size, now
            if now - changed > quiet or now - began > MOST_SECONDS:
                # Its session, because the tests start processes too.
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                return "hang"
        else:
            return f"end of the process with status {status}" if status else ""


def run(
    reactor: str,
    modules: Sequence[str],
    only: Collection[str] | None = None,
    quiet: float = QUIET_SECONDS,
) -> dict[str, Outcome]:
    """Run tests on a reactor and return what became of each.

    A test that hangs or ends the process has that as its outcome; the others are run in a new
    process.

    :param reactor: a short name or the dotted name of a class, and perhaps ``ACCELERATED``.
    :param modules: the modules to load.
    :param only: the ids to run; all, if None.
    :param quiet: after how many seconds without an event a test hangs.
    """
    with tempfile.TemporaryDirectory(prefix="suite", ignore_cleanup_errors=True) as folder:
        record = Path(folder, "record")
        record.touch()
        output = Path(folder, "output")
        for _ in range(MOST_STOPS):
            job = {
                "reactor": reactor.removesuffix(ACCELERATED),
                "modules": list(modules),
                "only": None if only is None else list(only),
                "done": list(gather(read(record))),
                "record": str(record),
            }
            fast = "1" if reactor.endswith(ACCELERATED) else "0"
            stop = _one_process(job, fast, Path(folder), output, record, quiet)
            events = read(record)
            if events and events[-1]["kind"] == "end":
                break
            begun = [event["id"] for event in events if event["kind"] == "start"]
            ended = {event["id"] for event in events if event["kind"] not in ("start", "end")}
            name = begun[-1] if begun and begun[-1] not in ended else "<not in test>"
            lines = output.read_text(errors="replace").splitlines()[-15:]
            event = {"id": name, "kind": stop or "no end", "traceback": "\n".join(lines)}
            with record.open("a", encoding="utf-8") as file:
                file.write(json.dumps(event) + "\n")
            if name == "<not in test>":
                break
        return gather(read(record))


def _one_process(
    job: object, fast: str, folder: Path, output: Path, record: Path, quiet: float
) -> str:
    # Sets are then iterated in the same order on both sides.
    environment = {**os.environ, "PYTHONHASHSEED": "0", "SOCKSERVICES_FAST": fast}
    # A file, since a list of ids may be longer than execve(2) allows one argument to be.
    job_file = folder / "job"
    job_file.write_text(json.dumps(job), encoding="utf-8")
    with output.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, CHILD, job_file],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        return watch(process, record, quiet)
