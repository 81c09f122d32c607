"""The workloads: what the servers are asked to do, and what is measured."""

from __future__ import annotations

import attrs

LOWER_IS_BETTER = ("memory", "start", "stop", "cost")


@attrs.frozen
class Workload:
    """One workload, which is one table of the report.

    :param serves: what the server must serve: ``echo``, ``hello`` or ``lines=N`` on TCP, ``tls``
        (echo), ``unix`` (echo), ``udp`` (echo), ``sink`` (UDP), ``datagram`` (Unix) or ``stop``
        (echo by a server that ends its connections before it exits).
    :param load: the load generator's mode and its options; empty without a load.
    :param base: the entry whose ratio is 1.0.
    :param figure: what the ratios compare: ``rate``, ``mib``, ``cost`` (CPU time), ``memory``,
        ``start`` or ``stop``.
    :param unit: the unit of the figure.
    :param operation: the name of one operation, for columns with values per operation.
    :param rival: the peer that a quick run compares with: the one that is usually the best.
    :param counted: whether system calls are counted; not where most would be those that open the
        connections.
    :param silent_first: whether the server's first connection closes without a byte, as that of a
        health check does.
    """

    name: str
    title: str
    serves: str
    load: tuple[str, ...]
    base: str
    figure: str
    unit: str
    operation: str
    rival: str = "uvloop"
    counted: bool = True
    silent_first: bool = False

    @property
    def lower_is_better(self) -> bool:
        """Whether a ratio below 1.0 is better."""
        return self.figure in LOWER_IS_BETTER

    @property
    def opens_many(self) -> bool:
        """Whether the load opens many connections, and waits before it goes on."""
        return self.load[:1] == ("idle",)


def _echo(
    name: str, size: int, connections: int = 64, serves: str = "echo", rival: str = "uvloop"
) -> Workload:
    how = {"unix": " on Unix sockets", "udp": " of UDP datagrams", "tls": " over TLS"}.get(
        serves, ""
    )
    each = "sockets" if serves == "udp" else "connections" if connections > 1 else "connection"
    title = (
        f"Echo{how}, {connections:,} {each}, {size} bytes a message, one message outstanding each"
    )
    options = [f"--{serves}"] if serves in ("udp", "tls") else []
    load = ("pingpong", "--connections", str(connections), "--size", str(size), *options)
    return Workload(
        name,
        title,
        serves,
        load,
        "twisted",
        "rate",
        "messages/s",
        "message",
        rival,
        counted=connections <= 64,
    )


def _lines(name: str, count: int) -> Workload:
    title = f"{count} writes of 20 bytes for each request of 20, 64 connections, one request each"
    load = ("pingpong", "--connections", "64", "--size", "20", "--copies", str(count))
    return Workload(name, title, f"lines={count}", load, "twisted", "rate", "answers/s", "answer")


def _stream(name: str, how: str, serves: str, *options: str, rival: str = "uvloop") -> Workload:
    title = f"Echo of 8 streams{how}, written in blocks of 64 KiB as fast as they are taken"
    load = ("stream", "--connections", "8", "--size", "65536", *options)
    return Workload(name, title, serves, load, "twisted", "mib", "MiB/s", "64 KiB", rival)


def _handshake(name: str, what: str, rival: str, *options: str) -> Workload:
    title = f"{what}, then one byte each way; 8 at all times"
    load = ("handshake", "--connections", "8", *options)
    unit = "CPU us/handshake"
    return Workload(name, title, "tls", load, "twisted", "cost", unit, "handshake", rival)


def _datagram(name: str, size: int) -> Workload:
    title = f"Unix datagrams of {size} bytes, hex-dumped to /dev/null"
    load = ("datagram", "--size", str(size))
    return Workload(
        name, title, "datagram", load, "c", "rate", "datagrams/s", "datagram", rival="c"
    )


def _memory(name: str, title: str, silent_first: bool = False) -> Workload:
    load, unit = ("idle", "--size", "64"), "KiB/connection"
    return Workload(
        name,
        title,
        "echo",
        load,
        "asyncio",
        "memory",
        unit,
        "message",
        counted=False,
        silent_first=silent_first,
    )


WORKLOADS = (
    _echo("echo-64", 64),
    _echo("echo-64-1", 64, connections=1),
    _echo("echo-64-8", 64, connections=8),
    _echo("echo-64-512", 64, connections=512),
    _echo("echo-64-8000", 64, connections=8000),
    _echo("echo-4k", 4096),
    _lines("lines", 2),
    _lines("lines-10", 10),
    _stream("stream", "", "echo"),
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
    _echo("unix-64", 64, serves="unix"),
    _echo("udp-64", 64, serves="udp", rival="go"),
    Workload(
        "udp-flood",
        "UDP datagrams of 64 bytes, 400,000 a second, discarded",
        "sink",
        ("flood", "--udp", "--size", "64", "--rate", "400000"),
        "twisted",
        "cost",
        "CPU us/datagram",
        "datagram",
    ),
    _echo("tls-64", 64, serves="tls", rival="go"),
    _stream("tls-stream", " over TLS", "tls", "--tls", rival="go"),
    _handshake("tls-handshake", "Full TLS 1.3 handshakes", "uvloop"),
    _handshake("tls-resumed", "TLS 1.3 handshakes that resume a session", "go", "--resume"),
    _datagram("datagram-64", 64),
    _datagram("datagram-1k", 1024),
    _memory(
        "idle", "Resident memory of an idle connection, and the latency of one active among {idle}"
    ),
    _memory(
        "used",
        "Resident memory of a connection after one message, {idle} of them, "
        "when the first connection of the server closed without a byte",
        silent_first=True,
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
        rival="asyncio",
        counted=False,
    ),
    Workload(
        "stop",
        "From SIGTERM to the end of the process, with {idle} connections open",
        "stop",
        ("idle", "--size", "64"),
        "twisted",
        "stop",
        "s",
        "stop",
        rival="twisted",
        counted=False,
    ),
)
