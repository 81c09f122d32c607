"""A single measurement: one fresh server, one load."""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import attrs

from benchmarks.entries import Entry
from benchmarks.failures import MeasurementError
from benchmarks.servers import Server, running
from benchmarks.workloads import Workload

Report = dict[str, float]
DYING = 0.5  # seconds: a dying server closes its sockets a little before it has an exit status


@attrs.frozen
class Settings:
    """The settings of a measurement.

    :param seconds: the seconds to measure, after ``warmup`` seconds that are not measured.
    :param idle: the number of connections in the workloads ``idle``, ``used`` and ``stop``.
    """

    load_program: Path
    core: int
    seconds: float
    warmup: float
    idle: int


@attrs.frozen
class Sample:
    """The result of one server in one round, or the ``failure`` that prevented it.

    :param figure: the value that the workload's ratios compare, in its unit.
    :param report: other values by name; a name ends with the unit of its value.
    """

    figure: float = 0.0
    report: Report = attrs.field(factory=dict)
    failure: str | None = None


def measure(workload: Workload, entry: Entry, settings: Settings) -> Sample:
    """Start the server, load it, and stop it; return any error in the sample."""
    try:
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            with running(entry, workload, Path(folder), settings.core) as server:
                sample = MEASURES[workload.figure](workload, server, settings)
                if workload.figure != "stop":
                    server.check()
                return sample
    except MeasurementError as failure:
        return Sample(failure=str(failure))


def _start(workload: Workload, server: Server, settings: Settings) -> Sample:
    cpu = server.cpu_seconds
    report = {"operations": 1.0, "seconds": server.answered - server.started}
    return Sample(report["seconds"], {**report, "server_cpu_us": cpu * 1e6})


def _rate(workload: Workload, server: Server, settings: Settings) -> Sample:
    report = load(workload, server, settings)
    return Sample(report["operations"] / report["seconds"], report)


def _mib(workload: Workload, server: Server, settings: Settings) -> Sample:
    blocks = _rate(workload, server, settings)
    return attrs.evolve(blocks, figure=blocks.figure / 16)


def _cost(workload: Workload, server: Server, settings: Settings) -> Sample:
    report = load(workload, server, settings)
    return Sample(report["server_cpu_us"], report)


def _memory(workload: Workload, server: Server, settings: Settings) -> Sample:
    before = server.resident_kib
    with _opened(workload, server, settings) as process:
        memory = (server.resident_kib - before) / settings.idle
        return Sample(memory, finish(process, server, settings, "go\n"))


def _stop(workload: Workload, server: Server, settings: Settings) -> Sample:
    with _opened(workload, server, settings):
        return Sample(server.stop())


MEASURES = {
    "rate": _rate,
    "mib": _mib,
    "cost": _cost,
    "memory": _memory,
    "start": _start,
    "stop": _stop,
}


@contextlib.contextmanager
def _opened(
    workload: Workload, server: Server, settings: Settings
) -> Iterator[subprocess.Popen[str]]:
    """Run a load that has opened its connections, and waits."""
    process = start_load(workload, server, settings)
    try:
        assert process.stdout is not None
        if process.stdout.readline() != "opened\n":
            finish(process, server, settings)
            raise MeasurementError("the load did not open its connections")
        yield process
    finally:
        process.kill()
        process.communicate()


def load(workload: Workload, server: Server, settings: Settings) -> Report:
    """Run a load on a server, and return its report.

    :raises MeasurementError: the load met an error, or the server exited.
    """
    return finish(start_load(workload, server, settings), server, settings)


def start_load(workload: Workload, server: Server, settings: Settings) -> subprocess.Popen[str]:
    """Start the load generator for a server."""
    command = [str(settings.load_program), *workload.load, "--pid", str(server.process.pid)]
    command += ["--seconds", str(settings.seconds), "--warmup", str(settings.warmup)]
    if workload.serves in ("datagram", "unix"):
        command += ["--path", str(server.path)]
    else:
        command += ["--port", str(server.port)]
    if workload.opens_many:
        command += ["--connections", str(settings.idle)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def finish(
    process: subprocess.Popen[str], server: Server, settings: Settings, line: str = ""
) -> Report:
    """Send a line to the load, wait until it exits, and return its report.

    :raises MeasurementError: the load met an error, or the server exited.
    """
    try:
        out, err = process.communicate(line, settings.warmup + settings.seconds + 30)
    except subprocess.TimeoutExpired:
        server.check(patience=DYING)
        raise MeasurementError(
            "the load did not finish: the server stopped reading or answering"
        ) from None
    finally:
        # Whatever happened, even an interrupt, the process must not survive.
        process.kill()
        process.wait()
    if process.returncode:
        server.check(patience=DYING)
        raise MeasurementError(f"the load failed: {err.strip() or f'status {process.returncode}'}")
    try:
        return parse_report(out)
    except MeasurementError:
        server.check(patience=DYING)
        raise


def parse_report(text: str) -> Report:
    """Parse the load generator's line, and add the server's cost of one operation.

    :raises MeasurementError: the load met errors, or no operation was done.
    """
    told = json.loads(text)
    first = told.pop("first_error")
    report: Report = told
    if report["errors"]:
        raise MeasurementError(f"{report['errors']:.0f} errors in the load, the first: {first}")
    if not report["operations"]:
        raise MeasurementError("no operation was completed in the measured time")
    cpu = report["server_cpu_seconds"]
    report["server_busy"] = cpu / report["seconds"]
    report["server_cpu_us"] = cpu / report["operations"] * 1e6
    return report
