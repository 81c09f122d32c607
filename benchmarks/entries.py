"""The servers to compare: the project's own commands, and the peers."""

from __future__ import annotations

import functools
import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping

import attrs
from twisted.application.reactors import getReactorTypes

from benchmarks.building import HERE, c_peer, go_peer

# The arguments of a command; {port}, {path} and {log} are filled in when the server starts.
Command = Callable[[], list[str]]

PEERS = HERE / "peers"
LINES = ("lines=2", "lines=10")  # arguments of a peer, and of --with


@attrs.frozen
class Entry:
    """One server in the comparison.

    :param commands: how to start it, by what it serves; see ``Workload.serves``.
    :param missing: takes what to serve, and returns why the server cannot run here, if so.
    :param ours: whether it is one of the project's own commands.
    :param dumps_to_stderr: whether it writes its output to standard error.
    """

    name: str
    title: str
    commands: Mapping[str, Command]
    missing: Callable[[str], str | None] = lambda serves: None
    ours: bool = False
    dumps_to_stderr: bool = False


def _peer(program: Command, *extra: str) -> dict[str, Command]:
    def command(mode: str) -> list[str]:
        return [*program(), "{port}", mode, *extra]

    return {mode: functools.partial(command, mode) for mode in ("echo", "hello", *LINES)}


def _python(file: str, *extra: str) -> Mapping[str, Command]:
    return _peer(lambda: [sys.executable, str(PEERS / file)], *extra)


def _twistd(*options: str, stream: tuple[str, ...] = ()) -> dict[str, Command]:
    """Return the commands as an operator writes them, with all defaults."""
    twistd = [f"{sys.exec_prefix}/bin/twistd", *options, "-n", "-l", "{log}"]
    listen = [*stream, "--listen", "tcp:{port}:interface=127.0.0.1"]

    def lines(mode: str) -> list[str]:
        serve = ["sock-serve", "--factory", "lines_factory.LinesFactory", "--with", mode]
        # The factory's module must be found from any directory; the other commands do not need it.
        return ["env", f"PYTHONPATH={PEERS}", *twistd, *serve, *listen]

    return {
        "echo": lambda: [*twistd, "sock-echo", *listen],
        "hello": lambda: [*twistd, "sock-hello", *listen],
        **{mode: functools.partial(lines, mode) for mode in LINES},
        "datagram": lambda: [*twistd, "sock-hexdump", "--socket", "{path}"],
    }


def _needs_program(name: str) -> Callable[[str], str | None]:
    return lambda serves: None if shutil.which(name) else f"not installed: {name}"


def _needs_module(name: str) -> Callable[[str], str | None]:
    return lambda serves: None if importlib.util.find_spec(name) else f"not installed: {name}"


def _needs_reactor(name: str) -> Callable[[str], str | None]:
    def missing(serves: str) -> str | None:
        known = any(reactor.shortName == name for reactor in getReactorTypes())
        return None if known else f"this Twisted has no reactor named {name}"

    return missing


@functools.cache
def _help() -> str:
    # The stream options are the same for every service.
    command = [f"{sys.exec_prefix}/bin/twistd", "sock-echo", "--help"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def _needs_option(option: str) -> Callable[[str], str | None]:
    def missing(serves: str) -> str | None:
        return None if option in _help() else f"this sockservices has no option {option}"

    return missing


# Every limit, set so high that none is reached.
LIMITS = (
    *("--max-connections=20000", "--max-per-source=20000", "--at-limit=wait"),
    *("--rate=1000000/1", "--rate-per-source=1000000/1"),
    *("--allow=127.0.0.0/8", "--deny=192.0.2.0/24", "--exempt=198.51.100.0/24"),
    *("--idle-timeout=600", "--max-time=3600", "--max-write-buffer=100000000"),
)
_limited_commands = _twistd(stream=LIMITS)
del _limited_commands["datagram"]

STOCK = "--stock-transports"
_stock_commands = _twistd(stream=(STOCK,))
del _stock_commands["datagram"]  # the option affects only streams

ENTRIES = (
    Entry("sockservices", "sockservices", _twistd(), ours=True),
    Entry(
        "sockservices-eager",
        "sockservices, --reactor=eager",
        _twistd("--reactor=eager"),
        _needs_reactor("eager"),
        ours=True,
    ),
    Entry(
        "sockservices-limits",
        "sockservices, every limit on",
        _limited_commands,
        _needs_option("--max-per-source"),
        ours=True,
    ),
    Entry(
        "sockservices-stock",
        f"sockservices, {STOCK}",
        _stock_commands,
        _needs_option(STOCK),
        ours=True,
    ),
    Entry("twisted", "Twisted, stock epoll", _python("twisted_stock.py")),
    Entry("asyncio", "asyncio Protocol", _python("asyncio_protocol.py")),
    Entry("asyncio-streams", "asyncio streams", _python("asyncio_streams.py")),
    Entry(
        "uvloop",
        "uvloop Protocol",
        _python("asyncio_protocol.py", "uvloop"),
        _needs_module("uvloop"),
    ),
    Entry(
        "uvloop-streams",
        "uvloop streams",
        _python("asyncio_streams.py", "uvloop"),
        _needs_module("uvloop"),
    ),
    Entry("gevent", "gevent", _python("gevent_server.py"), _needs_module("gevent")),
    Entry("socketserver", "socketserver, threads", _python("socketserver_threads.py")),
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
            **_peer(lambda: [str(c_peer("echo_epoll"))]),
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
