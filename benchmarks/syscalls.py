"""Counting system calls per operation, with strace in a separate short run."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import attrs

from benchmarks.entries import Entry
from benchmarks.failures import MeasurementError
from benchmarks.measuring import Settings, load
from benchmarks.servers import on_core, running
from benchmarks.workloads import Workload


def count(workload: Workload, entry: Entry, settings: Settings) -> float | str:
    """Return the server's system calls per operation, or why they are unknown.

    The count includes accepting and closing the load's connections: a few calls among thousands.
    """
    if shutil.which("strace") is None:
        return "not installed: strace"
    # No warm-up: strace counts everything that the load does, so the load must count it too.
    settings = attrs.evolve(settings, warmup=0.0)
    try:
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            with running(entry, workload, Path(folder), settings.core) as server:
                table = Path(folder, "strace")
                command = ["strace", "-c", "-f", "-o", str(table), "-p", str(server.process.pid)]
                # On the server's core, strace slows down only the server. So the server gets as
                # many events per wake-up as without strace, when it is the bottleneck.
                with on_core(settings.core):
                    strace = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
                try:
                    assert strace.stderr is not None
                    said = strace.stderr.readline().strip()
                    if "attached" not in said:
                        raise MeasurementError(said or "strace said nothing")
                    operations = load(workload, server, settings)["operations"]
                finally:
                    strace.send_signal(signal.SIGINT)
                    strace.communicate(timeout=30)
                return total_calls(table.read_text()) / operations
    except MeasurementError as failure:
        return str(failure)


def total_calls(table: str) -> int:
    """Return the number of calls from the output of ``strace -c``.

    Columns may be empty, so they are found by where the words of the header end.

    :raises MeasurementError: the output has no such table.
    """
    lines = table.splitlines()
    header = next((line for line in lines if " calls " in line), None)
    total = next((line for line in lines if line.endswith(" total")), None)
    if header is None or total is None:
        raise MeasurementError("strace counted nothing")
    return int(total[: header.index("calls") + len("calls")].split()[-1])
