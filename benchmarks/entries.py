"""The servers to compare: the project's own commands, and the peers."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable, Mapping

import attrs

from benchmarks.building import HERE, c_peer, go_peer, openssl_flags
from benchmarks.runtimes import OWN, Runtime

# The arguments of a command. {python}, {twistd}, {port}, {path}, {certificate} and {log} are filled
# in when the server starts.
Command = Callable[[], list[str]]

PEERS = HERE / "peers"
LINES = ("lines=2", "lines=10")  # arguments of a peer, and of --with
TCP = ("echo", "hello", *LINES)
ALL = (*TCP, "unix", "udp", "sink", "tls")


@attrs.frozen
class Entry:
    """One server in the comparison.

    :param commands: how to start it, by what it serves; see ``Workload.serves``.
    :param needs: takes what to serve and where, and returns why the server cannot run, if so.
    :param ours: whether it is one of the project's own commands.
    :param dumps_to_stderr: whether it writes its output to standard error.
    :param environment: what it has in its environment beside ours.
    :param runtime: where its Python programs run.
    """

    name: str
    title: str
    commands: Mapping[str, Command]
    needs: Callable[[str, Runtime], str | None] = lambda serves, runtime: None
    ours: bool = False
    dumps_to_stderr: bool = False
    environment: Mapping[str, str] = {}
    runtime: Runtime = OWN

    def missing(self, serves: str) -> str | None:
        """Return why it cannot serve this here, if so."""
        if serves == "tls" and self.ours and not self.runtime.has("OpenSSL"):
            return "not installed: pyOpenSSL"
        return self.needs(serves, self.runtime)


def _peer(program: Command, *extra: str, modes: tuple[str, ...] = ALL) -> dict[str, Command]:
    def command(mode: str) -> list[str]:
        where = "{path}" if mode == "unix" else "{port}"
        return [*program(), where, "tls={certificate}" if mode == "tls" else mode, *extra]

    return {mode: functools.partial(command, mode) for mode in modes}


def _python(file: str, *extra: str, modes: tuple[str, ...] = ALL) -> Mapping[str, Command]:
    return _peer(lambda: ["{python}", str(PEERS / file)], *extra, modes=modes)


def _twistd(*options: str, stream: tuple[str, ...] = ()) -> dict[str, Command]:
    """Return the commands as an operator writes them, with all defaults."""
    twistd = ["{twistd}", *options, "-n", "-l", "{log}"]
    # Modules in peers/ must be found from any directory; the other commands do not need it.
    serve = ["env", f"PYTHONPATH={PEERS}", *twistd, "sock-serve", "--factory"]
    listen = [*stream, "--listen", "tcp:{port}:interface=127.0.0.1"]
    udp = ["--listen", "udp:{port}:interface=127.0.0.1"]

    def lines(mode: str) -> list[str]:
        return [*serve, "lines_factory.LinesFactory", "--with", mode, *listen]

    return {
        "echo": lambda: [*twistd, "sock-echo", *listen],
        "hello": lambda: [*twistd, "sock-hello", *listen],
        **{mode: functools.partial(lines, mode) for mode in LINES},
        "stop": lambda: [*twistd, "sock-echo", *listen],
        "unix": lambda: [*twistd, "sock-echo", *stream, "--socket", "{path}"],
        "tls": lambda: [*twistd, "sock-echo", *listen, "--tls-cert", "{certificate}"],
        "udp": lambda: [*twistd, "sock-echo", *udp],
        "sink": lambda: [*serve, "sink_protocol.Sink", *udp],
        "datagram": lambda: [*twistd, "sock-hexdump", "--socket", "{path}"],
    }


def _without_datagrams(commands: dict[str, Command]) -> dict[str, Command]:
    return {
        mode: command
        for mode, command in commands.items()
        if mode not in ("udp", "sink", "datagram")
    }


def _needs_program(name: str) -> Callable[[str, Runtime], str | None]:
    return lambda serves, runtime: None if shutil.which(name) else f"not installed: {name}"


def _needs_module(name: str) -> Callable[[str, Runtime], str | None]:
    return lambda serves, runtime: None if runtime.has(name) else f"not installed: {name}"


def _needs_reactor(name: str) -> Callable[[str, Runtime], str | None]:
    why = f"this Twisted has no reactor named {name}"
    return lambda serves, runtime: None if runtime.has_reactor(name) else why


def _needs_option(option: str) -> Callable[[str, Runtime], str | None]:
    why = f"this sockservices has no option {option}"
    return lambda serves, runtime: None if runtime.has_option(option) else why


# Every limit, set so high that none is reached.
LIMITS = (
    *("--max-connections=20000", "--max-per-source=20000", "--at-limit=wait"),
    *("--rate=1000000/1", "--rate-per-source=1000000/1"),
    *("--allow=127.0.0.0/8", "--deny=192.0.2.0/24", "--exempt=198.51.100.0/24"),
    *("--idle-timeout=600", "--max-time=3600", "--max-write-buffer=100000000"),
)

STOCK = "--stock-transports"
PURE = {"SOCKSERVICES_FAST": "0"}

ENTRIES = (
    Entry("sockservices", "sockservices", _twistd(), ours=True, environment=PURE),
    Entry(
        "sockservices-fast",
        "sockservices with sockservices-fast",
        _twistd(),
        _needs_module("sockservices_fast"),
        ours=True,
    ),
    Entry(
        "sockservices-eager",
        "sockservices, --reactor=eager",
        _twistd("--reactor=eager"),
        _needs_reactor("eager"),
        ours=True,
        environment=PURE,
    ),
    Entry(
        "sockservices-limits",
        "sockservices, every limit on",
        _without_datagrams(_twistd(stream=LIMITS)),
        _needs_option("--max-per-source"),
        ours=True,
        environment=PURE,
    ),
    Entry(
        "sockservices-stock",
        f"sockservices, {STOCK}",
        _without_datagrams(_twistd(stream=(STOCK,))),  # the option affects only streams
        _needs_option(STOCK),
        ours=True,
        environment=PURE,
    ),
    Entry("twisted", "Twisted, stock epoll", _python("twisted_stock.py", modes=(*ALL, "stop"))),
    Entry("asyncio", "asyncio Protocol", _python("asyncio_protocol.py")),
    Entry("asyncio-streams", "asyncio streams", _python("asyncio_streams.py", modes=TCP)),
    Entry(
        "uvloop",
        "uvloop Protocol",
        _python("asyncio_protocol.py", "uvloop"),
        _needs_module("uvloop"),
    ),
    Entry(
        "talyn",
        "talyn Protocol",
        _python("asyncio_protocol.py", "talyn"),
        _needs_module("talyn"),
    ),
    Entry(
        "uvloop-streams",
        "uvloop streams",
        _python("asyncio_streams.py", "uvloop", modes=TCP),
        _needs_module("uvloop"),
    ),
    Entry("gevent", "gevent", _python("gevent_server.py", modes=TCP), _needs_module("gevent")),
    Entry("socketserver", "socketserver, threads", _python("socketserver_threads.py", modes=TCP)),
    Entry(
        "go",
        "Go net",
        _peer(lambda: [str(go_peer("echo"))]),
        _needs_program("go"),
    ),
    Entry(
        "c",
        "C",
        {
            **_peer(lambda: [str(c_peer("echo_epoll"))], modes=(*TCP, "unix")),
            **_peer(lambda: [str(c_peer("udp"))], modes=("udp", "sink")),
            **_peer(lambda: [str(c_peer("echo_tls", openssl_flags()))], modes=("tls",)),
            "datagram": lambda: [str(c_peer("hexdump")), "{path}"],
        },
    ),
    Entry(
        "socat",
        "socat -u -x",
        {"datagram": lambda: ["socat", "-u", "-x", "UNIX-RECV:{path}", "OPEN:/dev/null"]},
        _needs_program("socat"),
        dumps_to_stderr=True,
    ),
)
