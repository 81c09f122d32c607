"""Bad input: one line on standard error, a non-zero status, no traceback, nothing deleted."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.processes import BIN, PATIENCE, Service, needs, run

_TWISTD = (BIN / "twistd", "-n", "--logfile=log")
# Root may do everything, so some rights are taken from it.
_WITHOUT_RIGHTS = (
    "setpriv",
    "--bounding-set=-net_bind_service,-dac_override,-dac_read_search",
    "--inh-caps=-all",
)
_AS_ROOT = os.geteuid() == 0


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Give a folder that must be, afterwards, as the test has left it."""
    yield tmp_path
    assert (
        "Traceback" not in (tmp_path / "log").read_text() if (tmp_path / "log").exists() else True
    )


def _refused(
    folder: Path, *arguments: str | Path, prefix: tuple[str | Path, ...] = ()
) -> tuple[int, str]:
    """Run twistd, which must refuse in one line; return its status and the line."""
    before = _content(folder)
    done = run(*prefix, *_TWISTD, *arguments, cwd=folder)
    said = done.stderr.decode()
    assert done.stdout == b""
    assert said.count("\n") == 1, said
    assert said.endswith("\n")
    assert said.startswith("twistd: ")
    assert done.returncode > 0
    log = folder / "log"
    assert "Traceback" not in (log.read_text() if log.exists() else "")
    log.unlink(missing_ok=True)
    assert _content(folder) == before
    return done.returncode, said.removeprefix("twistd: ").rstrip("\n")


def _content(folder: Path) -> dict[str, tuple[int, int]]:
    return {path.name: (path.lstat().st_mode, path.lstat().st_ino) for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "nothing to listen on: give --port, --socket or --listen"),
        (["--port", "http"], "--port: 'http' is not a whole number from 0 to 65535"),
        (["--port", "-1"], "--port: -1 is not a whole number from 0 to 65535"),
        (["--port", "65536"], "--port: 65536 is not a whole number from 0 to 65535"),
        (["--port"], "option --port requires argument"),
        (["--prot", "7"], "option --prot not recognized; did you mean --port?"),
        (["--interface", "::1"], "--interface goes with --port"),
        (["--port", "0", "--interface", ""], "--interface: is empty"),
        (["--socket", ""], "--socket: is empty"),
        (
            ["--socket", "s", "--mode", "999"],
            "--mode: '999' is not a file mode: octal digits, 000 to 777, such as 660",
        ),
        (
            ["--port", "0", "--backlog", "0"],
            "--backlog: 0 is not a whole number from 1 to 2147483647",
        ),
        (["--port", "0", "extra"], "unexpected argument 'extra'"),
    ],
)
def test_usage(folder: Path, arguments: list[str], line: str) -> None:
    assert _refused(folder, "sock-echo", *arguments) == (2, f"sock-echo: {line}")


def test_a_reader_of_the_help_that_has_seen_enough(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [BIN / "twistd", "sock-echo", "--help"],
        cwd=tmp_path,
        stdout=writing,
        stderr=subprocess.PIPE,
        timeout=PATIENCE,
        check=False,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("description", "line"),
    [
        (
            "7",
            "'7' is not an endpoint description: expected TYPE:ARGUMENT, such as tcp:7, "
            "unix:/run/x, udp:7 or unixgram:/run/x",
        ),
        ("tcp:http", "in 'tcp:http', port: 'http' is not a whole number from 0 to 65535"),
        ("tcp:70000", "in 'tcp:70000', port: 70000 is not a whole number from 0 to 65535"),
        (
            "tcp:7:interfaces=127.0.0.1",
            "in 'tcp:7:interfaces=127.0.0.1', 'interfaces' is unknown: "
            "tcp takes port, interface, backlog, ipv6only, freebind, device",
        ),
        (
            "tcp:7:interface=127.1",
            "in 'tcp:7:interface=127.1', interface: '127.1' is not an IPv4 or IPv6 address, nor a "
            "host name that can be found: it is not a valid host name",
        ),
        ("tcp:7:port=8", "in 'tcp:7:port=8', port is given twice"),
        ("tcp6:7:x", "in 'tcp6:7:x', backlog: 'x' is not a whole number from 1 to 2147483647"),
        ("tcp:interface=127.0.0.1", "'tcp:interface=127.0.0.1' has no port"),
        ("unix:a:600:9:0:x", "in 'unix:a:600:9:0:x', 'x' is one argument too many"),
        (
            "unix:a:mode=999",
            "in 'unix:a:mode=999', mode: '999' is not a file mode: octal digits, 000 to 777, "
            "such as 660",
        ),
        ("udp:port", "in 'udp:port', port: 'port' is not a whole number from 0 to 65535"),
        (
            "udp:7:mode=660",
            "in 'udp:7:mode=660', 'mode' is unknown: udp takes port, interface, ipv6only, "
            "join, freebind, device",
        ),
        ("unixgram:", "in 'unixgram:', address: is empty"),
        (
            "tcp:0:interface=::1",
            "in 'tcp:0:interface=::1', an argument is empty; write an IPv6 address in brackets, "
            "and another colon in an argument as \\:",
        ),
        ("tcp:port=0:port=1", "in 'tcp:port=0:port=1', port is given twice"),
        (
            "unixgram:mode=660",
            "'unixgram:mode=660' needs either a path or abstract=NAME",
        ),
        (
            "unixgram:abstract=x:mode=660",
            "in 'unixgram:abstract=x:mode=660', mode: an abstract name has no file",
        ),
        ("tcp:7\\", "'tcp:7\\\\' ends with a backslash that escapes nothing"),
        ("ssl:x", "in 'ssl:x', port: 'x' is not a whole number from 0 to 65535"),
        (
            "ssl:0:privateKey=/none.pem",
            "in 'ssl:0:privateKey=/none.pem': /none.pem: No such file or directory",
        ),
    ],
)
def test_malformed_descriptions_name_the_part(folder: Path, description: str, line: str) -> None:
    status, said = _refused(folder, "sock-echo", "--listen", description)
    assert (status, said) == (1, f"sock-echo: {line}")


def test_an_unknown_type_is_named_with_those_that_there_are(folder: Path) -> None:
    _status, said = _refused(folder, "sock-echo", "--listen", "tpc:7")
    assert said.startswith("sock-echo: in 'tpc:7', the type 'tpc' is unknown; there are ")
    assert {"tcp,", "tcp6,", "unix,", "ssl,", "udp,", "unixgram;"} <= set(said.split())
    assert said.endswith("; did you mean tcp?")


def test_a_kind_that_the_service_does_not_serve(folder: Path) -> None:
    _status, said = _refused(folder, "sock-counter", "--listen", "udp:0")
    assert said == "sock-counter: sock-counter serves streams only; 'udp:0' is for datagrams"


def test_port_in_use(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        _status, said = _refused(folder, "sock-echo", f"--port={port}", "--interface=127.0.0.1")
    assert said == (
        f"sock-echo: cannot listen on tcp:{port}:interface=127.0.0.1: "
        "address already in use: another process listens there"
    )


def test_udp_port_in_use(folder: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        _status, said = _refused(folder, "sock-hexdump", f"--port={port}")
    assert said.endswith("address already in use: another process listens there")


def test_when_one_of_two_cannot_listen_neither_is_left(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        _refused(folder, "sock-echo", "--socket", "s", f"--listen=tcp:{port}")
    assert not (folder / "s").exists()


@pytest.mark.skipif(not _AS_ROOT, reason="only root can give rights away")
@needs("setpriv")
def test_a_privileged_port_without_the_right(folder: Path) -> None:
    first = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    if first < 8:
        pytest.skip("this system has no privileged ports")
    _status, said = _refused(folder, "sock-echo", "--port=7", prefix=_WITHOUT_RIGHTS)
    assert said == (
        "sock-echo: cannot listen on tcp:7: permission denied: "
        f"ports below {first} need root or CAP_NET_BIND_SERVICE"
    )


def test_an_interface_that_no_machine_has(folder: Path) -> None:
    _status, said = _refused(folder, "sock-echo", "--port=0", "--interface=192.0.2.1")
    assert said.endswith("no interface of this machine has that address")


# Unix sockets: streams (echo) and datagrams (hexdump).

_BOTH = pytest.mark.parametrize(
    ("command", "kind", "prefix"),
    [("sock-echo", socket.SOCK_STREAM, "unix"), ("sock-hexdump", socket.SOCK_DGRAM, "unixgram")],
)


@_BOTH
def test_a_path_longer_than_the_system_takes(
    folder: Path, command: str, kind: int, prefix: str
) -> None:
    _status, said = _refused(folder, command, "--socket", "/tmp/" + "x" * 103)
    assert said.endswith("xxx is 108 bytes long; the limit on this system is 107")


@_BOTH
def test_a_missing_folder(folder: Path, command: str, kind: int, prefix: str) -> None:
    _status, said = _refused(folder, command, "--socket", "none/s")
    assert said == f"{command}: cannot listen on {prefix}:none/s: the directory none does not exist"


@_BOTH
@pytest.mark.skipif(not _AS_ROOT, reason="only root can give rights away")
@needs("setpriv")
def test_an_unwritable_folder(folder: Path, command: str, kind: int, prefix: str) -> None:
    (folder / "closed").mkdir(mode=0o555)
    _status, said = _refused(folder, command, "--socket=closed/s", prefix=_WITHOUT_RIGHTS)
    assert said == (
        f"{command}: cannot listen on {prefix}:closed/s: "
        "the directory closed is not writable: Permission denied"
    )


@_BOTH
@pytest.mark.parametrize("what", ["file", "folder", "symlink"])
def test_a_file_that_is_no_socket_is_never_removed(
    folder: Path, command: str, kind: int, prefix: str, what: str
) -> None:
    path = folder / "precious"
    if what == "file":
        path.write_text("years of work")
    elif what == "folder":
        path.mkdir()
    else:
        (folder / "target").write_text("years of work")
        path.symlink_to("target")
    _status, said = _refused(folder, command, "--socket=precious")
    assert said == (
        f"{command}: cannot listen on {prefix}:precious: "
        "precious exists and is not a socket; it was not changed"
    )


@_BOTH
def test_a_live_socket_is_in_use(folder: Path, command: str, kind: int, prefix: str) -> None:
    with socket.socket(socket.AF_UNIX, kind) as live:
        live.bind(str(folder / "s"))
        if kind == socket.SOCK_STREAM:
            live.listen()
        _status, said = _refused(folder, command, "--socket=s")
    assert said == (
        f"{command}: cannot listen on {prefix}:s: "
        "address already in use: another process listens there"
    )


@_BOTH
def test_a_live_socket_of_the_other_kind_is_in_use(
    folder: Path, command: str, kind: int, prefix: str
) -> None:
    other = socket.SOCK_DGRAM if kind == socket.SOCK_STREAM else socket.SOCK_STREAM
    with socket.socket(socket.AF_UNIX, other) as live:
        live.bind(str(folder / "s"))
        if other == socket.SOCK_STREAM:
            live.listen()
        _status, said = _refused(folder, command, "--socket=s")
    assert said.endswith("address already in use: another process listens there")


@_BOTH
def test_a_stale_socket_is_replaced(tmp_path: Path, command: str, kind: int, prefix: str) -> None:
    with socket.socket(socket.AF_UNIX, kind) as stale:
        stale.bind(str(tmp_path / "s"))
    with Service(command, "--socket=s", cwd=tmp_path) as service:
        with socket.socket(socket.AF_UNIX, kind) as client:
            client.connect(str(tmp_path / "s"))
        service.stop()
    assert not (tmp_path / "s").exists()


@_BOTH
def test_after_a_kill_it_starts_again(tmp_path: Path, command: str, kind: int, prefix: str) -> None:
    with Service(command, "--socket=s", cwd=tmp_path) as first:
        first.process.kill()
        first.wait()
        assert (tmp_path / "s").is_socket()
        with Service(command, "--socket=s", cwd=tmp_path):
            pass


@_BOTH
def test_of_many_starters_one_gets_the_path(
    tmp_path: Path, command: str, kind: int, prefix: str
) -> None:
    with socket.socket(socket.AF_UNIX, kind) as stale:
        stale.bind(str(tmp_path / "s"))
    starters = [
        subprocess.Popen(
            [str(part) for part in (*_TWISTD[:3], f"--logfile=log{number}", command, "--socket=s")],
            cwd=tmp_path,
            stderr=subprocess.PIPE,
        )
        for number in range(4)
    ]
    try:
        waiting = set(range(4))
        while len(waiting) > 1:  # all but one end, and say that the path is in use
            waiting = {number for number in waiting if starters[number].poll() is None}
        (winner,) = waiting
        for number in {0, 1, 2, 3} - waiting:
            said = starters[number].stderr.read().decode()  # type: ignore[union-attr]
            assert said.endswith("address already in use: another process listens there\n")
        with socket.socket(socket.AF_UNIX, kind) as client:
            client.connect(str(tmp_path / "s"))
        assert starters[winner].poll() is None
    finally:
        for starter in starters:
            starter.kill()
            starter.wait()
            starter.stderr.close()  # type: ignore[union-attr]


@_BOTH
@pytest.mark.parametrize(("options", "mode"), [([], 0o600), (["--mode", "660"], 0o660)])
def test_the_mode_of_a_socket_file(
    tmp_path: Path, command: str, kind: int, prefix: str, options: list[str], mode: int
) -> None:
    with Service(command, "--socket=s", *options, cwd=tmp_path):
        assert (tmp_path / "s").stat().st_mode & 0o777 == mode


@_BOTH
def test_a_description_without_a_mode_takes_the_option(
    tmp_path: Path, command: str, kind: int, prefix: str
) -> None:
    with Service(
        command, f"--listen={prefix}:a", f"--listen={prefix}:b:mode=640", "--mode=620", cwd=tmp_path
    ):
        assert (tmp_path / "a").stat().st_mode & 0o777 == 0o620
        assert (tmp_path / "b").stat().st_mode & 0o777 == 0o640


# Factories.


@pytest.mark.parametrize(
    ("options", "shows"), [(["-n"], False), (["-b"], True), (["-nb"], True), (["--debug"], True)]
)
@pytest.mark.parametrize(
    ("factory", "status", "line"),
    [
        (
            "Lost",
            2,
            "--factory: cannot import 'mistaken.Lost': KeyError: 'port' (wrong.py:2)",
        ),
        ("Unbuilt", 1, "Unbuilt could not be built: KeyError: 'port' (mistaken.py:10)"),
    ],
)
def test_a_mistake_has_its_place_and_in_the_debugger_its_traceback(
    tmp_path: Path, options: list[str], shows: bool, factory: str, status: int, line: str
) -> None:
    (tmp_path / "wrong.py").write_text("none = {}\nnone['port']\n")
    (tmp_path / "mistaken.py").write_text(_MISTAKEN)
    arguments = ("sock-serve", f"--factory=mistaken.{factory}", "--port=0")
    done = run(BIN / "twistd", *options, *arguments, cwd=tmp_path)
    said = done.stderr.decode()
    assert said.endswith(f"twistd: sock-serve: {line}\n")
    assert done.returncode == status
    assert said.startswith("Traceback") == shows
    assert (said.count("\n") > 1) == shows


_MISTAKEN = """
from twisted.internet.protocol import Factory

def __getattr__(name):
    if name == "Lost":
        import wrong
    raise AttributeError
class Unbuilt(Factory):
    def __init__(self):
        {}["port"]
"""

_FACTORIES = """
from twisted.internet.protocol import Factory, Protocol
from sockservices import setting, whole_number
import attrs

class Raises(Factory):
    def __init__(self):
        raise RuntimeError("no such luck\\nreally")

class NoFactory:
    pass

@attrs.define(eq=False, slots=False)
class Limited(Factory):
    limit: int = setting(help="How many.", converter=whole_number(1, 9))
"""


@pytest.mark.parametrize(
    ("arguments", "status", "line"),
    [
        ([], 2, "nothing to serve: give --factory package.module.Factory"),
        (
            ["--factory=f.Missing"],
            2,
            "--factory: cannot import 'f.Missing': AttributeError: "
            "module 'f' has no attribute 'Missing'",
        ),
        (
            ["--factory=f.NoFactory"],
            2,
            "--factory: f.NoFactory is the class NoFactory; expected a protocol factory, a "
            "protocol class, a datagram protocol, or a function that returns a factory",
        ),
        (
            ["--factory=f.Raises", "--port=0"],
            1,
            "Raises could not be built: RuntimeError: no such luck (f.py:8)",
        ),
        (["--factory=f.Limited", "--port=0"], 1, "Limited needs --with limit"),
        (
            ["--factory=f.Limited", "--port=0", "--with=limit=10"],
            2,
            "--with limit: 10 is not a whole number from 1 to 9",
        ),
        (
            ["--factory=f.Limited", "--port=0", "--with=size=1"],
            2,
            "--with: f.Limited has no setting 'size'; it has: limit",
        ),
        (["--factory=f.Limited", "--with=limit"], 2, "--with: 'limit' is not NAME=VALUE"),
    ],
)
def test_factories(folder: Path, arguments: list[str], status: int, line: str) -> None:
    (folder / "f.py").write_text(_FACTORIES)
    said = _refused(folder, "sock-serve", *arguments, prefix=("env", "PYTHONDONTWRITEBYTECODE=1"))
    assert said == (status, f"sock-serve: {line}")


def test_a_factory_whose_module_is_not_there(folder: Path) -> None:
    status, said = _refused(folder, "sock-serve", "--factory=nowhere.Factory")
    assert status == 2
    assert said.startswith("sock-serve: --factory: cannot import 'nowhere.Factory': ")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--count", "0"], "--count: 0 is not a whole number, 1 or more"),
        (["--format", "pretty"], "--format: 'pretty' is not one of plain, canonical, json"),
        (["--max-size", "many"], "--max-size: 'many' is not a whole number from 1 to 16777216"),
    ],
)
def test_values_that_a_converter_refuses(folder: Path, arguments: list[str], line: str) -> None:
    status, said = _refused(folder, "sock-hexdump", "--socket=u", *arguments)
    assert (status, said) == (2, f"sock-hexdump: {line}")


def test_an_output_that_cannot_be_opened(folder: Path) -> None:
    _status, said = _refused(folder, "sock-hexdump", "--socket=u", "--output=none/dump")
    assert (
        said
        == "sock-hexdump: HexdumpFactory could not be built: none/dump: No such file or directory"
    )


@_BOTH
@pytest.mark.parametrize("replaced", [False, True])
def test_only_its_own_socket_file_is_removed_at_the_end(
    tmp_path: Path, command: str, kind: int, prefix: str, replaced: bool
) -> None:
    with Service(command, "--socket=s", cwd=tmp_path) as service:
        (tmp_path / "s").unlink()
        if replaced:
            (tmp_path / "s").write_text("somebody else's")
        service.stop()
        assert "Traceback" not in service.err.whole()
        assert "did not close cleanly" not in service.err.whole()
    assert (tmp_path / "s").exists() == replaced


@pytest.mark.parametrize(
    ("arguments", "status", "line"),
    [
        (["--port=x"], 2, "sock-echo: --port: 'x' is not a whole number from 0 to 65535"),
        (
            ["--socket=none/s"],
            1,
            "sock-echo: cannot listen on unix:none/s: the directory none does not exist",
        ),
    ],
)
def test_twist_refuses_likewise(
    tmp_path: Path, arguments: list[str], status: int, line: str
) -> None:
    done = run(BIN / "twist", "--log-file=log", "sock-echo", *arguments, cwd=tmp_path)
    assert done.stderr.decode() == f"twist: {line}\n"
    assert (done.returncode, done.stdout) == (status, b"")
