"""A long mixed load on services that are not restarted: does anything grow?

``python -m benchmarks.soak --minutes 60`` starts one service for each kind of listener, loads them
in turn until the time is over, and prints what each process holds after each turn. It fails if
memory or file descriptors of the last third exceed those of the second by more than the noise.
"""

from __future__ import annotations

import contextlib
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import attrs
import click

from benchmarks.building import load_generator
from benchmarks.entries import ENTRIES
from benchmarks.failures import MachineError, MeasurementError
from benchmarks.measuring import Settings, load
from benchmarks.servers import Server, cores, prepare, running
from benchmarks.workloads import WORKLOADS, Workload

# One of each kind of load, each on a service of its own.
MIX = ("echo-64", "stream", "connect", "lines", "unix-64", "udp-64", "tls-64", "tls-resumed")

NOISE_KIB = 1024
"""So much resident memory comes and goes with what is on its way when it is looked at."""


@attrs.define
class Soaked:
    """A service, and what it held after each turn.

    :ivar kib: resident memory.
    :ivar descriptors: how many file descriptors were open.
    """

    workload: Workload
    server: Server
    kib: list[int] = attrs.field(factory=list)
    descriptors: list[int] = attrs.field(factory=list)
    operations: float = 0.0

    def turn(self, settings: Settings) -> None:
        """Load it, and look what it holds when the load has gone."""
        self.operations += load(self.workload, self.server, settings)["operations"]
        folder = Path(f"/proc/{self.server.process.pid}/fd")
        self.descriptors.append(len(list(folder.iterdir())))
        self.kib.append(self.server.resident_kib)

    def growth(self, held: list[int]) -> int:
        """Return by how much the last third exceeds the second, by their medians."""
        third = len(held) // 3
        return int(statistics.median(held[-third:]) - statistics.median(held[third:-third]))


@contextlib.contextmanager
def started(name: str, core: int) -> Iterator[list[Soaked]]:
    """Start a service for each workload of the mix."""
    entry = next(entry for entry in ENTRIES if entry.name == name)
    with contextlib.ExitStack() as stack:
        soaked = []
        for workload in WORKLOADS:
            if workload.name in MIX:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                server = stack.enter_context(running(entry, workload, folder, core))
                soaked.append(Soaked(workload, server))
        yield soaked


@click.command(help=__doc__)
@click.option("--minutes", type=click.FloatRange(0, min_open=True), default=60, show_default=True)
@click.option("--seconds", type=click.FloatRange(0, min_open=True), default=2, show_default=True)
@click.option(
    "--peer",
    type=click.Choice([entry.name for entry in ENTRIES if entry.ours]),
    default="sockservices",
    show_default=True,
)
def main(minutes: float, seconds: float, peer: str) -> None:
    """Run the soak; see the module."""
    try:
        settings = Settings(load_generator(), cores()[0], seconds, 0.1, 0)
        prepare()
        with started(peer, settings.core) as all_soaked:
            _soak(all_soaked, settings, time.monotonic() + 60 * minutes)
    except (MachineError, MeasurementError) as reason:
        raise click.ClickException(str(reason)) from reason


def _soak(all_soaked: list[Soaked], settings: Settings, end: float) -> None:
    turns = 0
    while time.monotonic() < end or turns < 6:
        turns += 1
        for each in all_soaked:
            each.turn(settings)
        held = (f"{each.workload.name} {each.kib[-1]}" for each in all_soaked)
        click.echo(f"turn {turns}, KiB: {', '.join(held)}")
    grown = []
    for each in all_soaked:
        memory, descriptors = each.growth(each.kib), each.growth(each.descriptors)
        click.echo(
            f"{each.workload.name}: {each.operations:,.0f} operations, {each.kib[-1]:,} KiB "
            f"({memory:+} KiB), {each.descriptors[-1]} descriptors ({descriptors:+})"
        )
        if memory > NOISE_KIB or descriptors > 0:
            grown.append(each.workload.name)
    if grown:
        raise click.ClickException(f"grown: {', '.join(grown)}")


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.soak")
