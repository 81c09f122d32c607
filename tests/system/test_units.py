"""The systemd units that are shipped: right, hardened, and with commands that work."""

from __future__ import annotations

import re
import shlex
import socket
from pathlib import Path

import pytest

from tests.system.processes import BIN, PATIENCE, Service, needs, read_all, run

UNITS = Path(__file__).parents[2] / "deploy" / "systemd"
SERVICES = sorted(path.stem for path in UNITS.glob("*.service"))
MOST_EXPOSED = 2.5  # of 10: systemd-analyze(1)

INSTALLED = "/opt/sockservices/bin"


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units, with the commands where they are here."""
    for unit in filter(Path.is_file, UNITS.iterdir()):
        text = unit.read_text()
        (tmp_path / unit.name).write_text(text.replace(INSTALLED, str(BIN)))
    return tmp_path


def test_there_are_units_for_these() -> None:
    assert SERVICES == ["sock-counter", "sock-echo", "sock-hexdump"]


@needs("systemd-analyze")
def test_systemd_finds_no_fault_with_them(installed: Path) -> None:
    done = run("systemd-analyze", "verify", *sorted(installed.iterdir()), cwd=installed)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.parametrize("name", SERVICES)
def test_no_number_of_starts_is_too_many(name: str) -> None:
    """At a limit, systemd puts the socket into the state "failed", which refuses all."""
    assert "\nStartLimitIntervalSec=0\n" in (UNITS / f"{name}.service").read_text()


@pytest.mark.parametrize("name", SERVICES)
def test_a_reload_needs_nothing_but_a_shell(installed: Path, name: str, tmp_path: Path) -> None:
    unit = (installed / f"{name}.service").read_text()
    [command] = re.findall(r"^ExecReload=(.*)$", unit, re.MULTILINE)
    with Service("sock-hello", "--port=0", cwd=tmp_path) as hello:
        done = run(
            *shlex.split(command),
            cwd=tmp_path,
            env={"MAINPID": str(hello.process.pid), "PATH": str(tmp_path)},
        )
        assert (done.returncode, done.stderr) == (0, b"")
        hello.err.wait_for("reloaded: nothing")


@needs("systemd-analyze")
@pytest.mark.parametrize("name", SERVICES)
def test_they_expose_little(installed: Path, name: str) -> None:
    done = run(
        *("systemd-analyze", "security", "--offline=true"),
        *(f"--threshold={MOST_EXPOSED * 10:.0f}", f"{name}.service"),
        cwd=installed,
    )
    found = re.search(rb"Overall exposure level for .*: ([0-9.]+) ", done.stdout)
    assert found, done.stderr
    assert (done.returncode, float(found[1]) < MOST_EXPOSED) == (0, True)


def _start(installed: Path, name: str, owned: socket.socket) -> Service:
    """Run a unit's command, with a socket by the name that its socket unit gives."""
    unit = (installed / f"{name}.service").read_text().replace("\\\n", " ")
    [command] = re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)
    arguments = shlex.split(command)
    [passed] = re.findall(
        r"^FileDescriptorName=(.*)$", (installed / f"{name}.socket").read_text(), re.MULTILINE
    )
    assert arguments[0] == str(BIN / "twistd")
    options = ["--nodaemon", "--logger=sockservices.to_stderr"]
    assert arguments[1:3] == options  # which the tests' services have as well
    return Service(*arguments[3:], cwd=installed, passed=[(passed, owned)])


def test_the_echo_answers(installed: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as owned:
        with _start(installed, "sock-echo", owned) as echo:
            with socket.create_connection(owned.getsockname(), PATIENCE) as client:
                client.sendall(b"hello")
                client.shutdown(socket.SHUT_WR)
                assert read_all(client) == b"hello"
            assert echo.stop() == 0


def test_the_counter_counts(installed: Path) -> None:
    with socket.socket(socket.AF_UNIX) as owned:
        owned.bind(str(installed / "s"))
        owned.listen()
        with _start(installed, "sock-counter", owned) as counter:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(PATIENCE)
                client.connect(owned.getsockname())
                assert read_all(client) == b"Connection 1!\n"
            assert counter.stop() == 0


def test_the_hexdump_dumps(installed: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as owned:
        owned.bind(str(installed / "d"))
        with _start(installed, "sock-hexdump", owned) as hexdump:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
                client.sendto(b"one", owned.getsockname())
            hexdump.out.wait_for("6f 6e 65 \n")
            assert hexdump.stop() == 0
