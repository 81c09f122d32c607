"""The workloads: what the servers are asked to do, and what is measured."""

from __future__ import annotations

import attrs


@attrs.frozen
class Workload:
    """One workload, which is one table of the report.

    :param serves: what the server must serve: ``echo``, ``hello``, ``lines=N`` or ``datagram``.
    :param load: the load generator's mode and its options; empty without a load.
    :param base: the entry whose ratio is 1.0.
    :param figure: what the ratios compare: ``rate``, ``mib``, ``memory`` or ``start``.
    :param unit: the unit of the figure.
    :param operation: the name of one operation, for columns with values per operation.
    """

    name: str
    title: str
    serves: str
    load: tuple[str, ...]
    base: str
    figure: str
    unit: str
    operation: str

    @property
    def lower_is_better(self) -> bool:
        """Whether a ratio below 1.0 is better."""
        return self.figure in ("memory", "start")


def _echo(name: str, size: int) -> Workload:
    title = f"Echo, 64 connections, {size} bytes a message, one message outstanding each"
    load = ("pingpong", "--connections", "64", "--size", str(size))
    return Workload(name, title, "echo", load, "twisted", "rate", "messages/s", "message")


def _lines(name: str, count: int) -> Workload:
    title = f"{count} writes of 20 bytes for each request of 20, 64 connections, one request each"
    load = ("pingpong", "--connections", "64", "--size", "20", "--copies", str(count))
    return Workload(name, title, f"lines={count}", load, "twisted", "rate", "answers/s", "answer")


def _datagram(name: str, size: int) -> Workload:
    title = f"Unix datagrams of {size} bytes, hex-dumped to /dev/null"
    load = ("datagram", "--size", str(size))
    return Workload(name, title, "datagram", load, "c", "rate", "datagrams/s", "datagram")


WORKLOADS = (
    _echo("echo-64", 64),
    _echo("echo-4k", 4096),
    _lines("lines", 2),
    _lines("lines-10", 10),
    Workload(
        "stream",
        "Echo of 8 streams, written in blocks of 64 KiB as fast as they are taken",
        "echo",
        ("stream", "--connections", "8", "--size", "65536"),
        "twisted",
        "mib",
        "MiB/s",
        "64 KiB",
    ),
    Workload(
        "connect",
        "Connect, answer, close; 64 at all times",
        "hello",
        ("connect", "--connections", "64"),
        "twisted",
        "rate",
        "connections/s",
        "connection",
    ),
    _datagram("datagram-64", 64),
    _datagram("datagram-1k", 1024),
    Workload(
        "idle",
        "Resident memory of an idle connection, and the latency of one active among {idle}",
        "echo",
        ("idle", "--size", "64"),
        "asyncio",
        "memory",
        "KiB/connection",
        "message",
    ),
    Workload(
        "start",
        "From exec to the end of the first answer",
        "hello",
        (),
        "twisted",
        "start",
        "s",
        "start",
    ),
)
