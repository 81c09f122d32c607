"""Services of other packages: bare factories, plugins, entry points, and their faults."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
from pathlib import Path

import pytest

from tests.system.processes import BIN, PATIENCE, Running, Service, read_all, run

_SERVICES = """
import dataclasses
import attrs
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from sockservices import setting

class Shout(Protocol):
    def dataReceived(self, data):
        self.transport.write(data.upper() + self.factory.mark.encode())

class Plain(Factory):
    protocol = Shout
    def __init__(self, mark: str = "!", times: int = 1):
        self.mark = mark * times

@attrs.define(eq=False, slots=False)
class Attrs(Factory):
    mark: str = setting(default="!", help="What to add.")
    protocol = Shout

@dataclasses.dataclass(eq=False)
class Data(Factory):
    mark: str = "!"
    protocol = Shout

built = Plain("built")

def make(mark):
    return Plain(mark)

class Bare(Protocol):
    def connectionMade(self):
        self.transport.write(b"bare")
        self.transport.loseConnection()

class Datagrams(DatagramProtocol):
    def __init__(self, mark: str = "!"):
        self.mark = mark.encode()
    def datagramReceived(self, data, peer):
        self.transport.write(data.upper() + self.mark, peer)

class Fragile(Protocol):
    def dataReceived(self, data):
        if data == b"break":
            raise RuntimeError("broken by its peer")
        self.transport.write(data)

class Stillborn(Protocol):
    def connectionMade(self):
        raise RuntimeError("no start")

class NoBuilder(Factory):
    def buildProtocol(self, addr):
        raise RuntimeError("no start")

class FragileDatagrams(DatagramProtocol):
    def datagramReceived(self, data, peer):
        if data == b"break":
            raise RuntimeError("broken by its peer")
        self.transport.write(data, peer)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shouting.py").write_text(_SERVICES)
    return tmp_path


@pytest.mark.parametrize(
    ("factory", "options", "answer"),
    [
        ("Plain", [], b"HI!"),
        ("Plain", ["--with=mark=?", "--with=times=3"], b"HI???"),
        ("Attrs", ["--with=mark=a=b"], b"HIa=b"),
        ("Data", ["--with=mark=."], b"HI."),
        ("built", [], b"HIbuilt"),
        ("make", ["--with=mark=?"], b"HI?"),
    ],
)
def test_any_stream_factory(folder: Path, factory: str, options: list[str], answer: bytes) -> None:
    with Service(
        "sock-serve", f"--factory=shouting.{factory}", "--port=0", *options, cwd=folder
    ) as service:
        with service.connect() as client:
            client.sendall(b"hi")
            assert client.recv(100) == answer


def test_a_protocol_without_a_factory(folder: Path) -> None:
    with Service("sock-serve", "--factory=shouting.Bare", "--port=0", cwd=folder) as service:
        with service.connect() as client:
            assert read_all(client) == b"bare"


def test_a_datagram_protocol_on_two_listeners(folder: Path) -> None:
    with Service(
        *("sock-serve", "--factory=shouting.Datagrams", "--with=mark=?"),
        *("--port=0", "--listen=udp:0"),
        cwd=folder,
    ) as service:
        for place in service.where:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.settimeout(PATIENCE)
                client.sendto(b"hi", ("127.0.0.1", int(place.rpartition(":")[2])))
                assert client.recv(100) == b"HI?"


def test_a_protocol_that_raises_costs_its_own_connection_only(folder: Path) -> None:
    with Service("sock-serve", "--factory=shouting.Fragile", "--port=0", cwd=folder) as service:
        with service.connect() as other, service.connect() as victim:
            victim.sendall(b"break")
            assert read_all(victim) == b""
            other.sendall(b"fine")
            assert other.recv(100) == b"fine"
        service.err.wait_for("RuntimeError: broken by its peer")
        log = service.err.text
    assert "Traceback" in log
    assert "127.0.0.1" in log


@pytest.mark.parametrize("factory", ["Stillborn", "NoBuilder"])
def test_a_protocol_that_cannot_start_costs_its_own_connection(folder: Path, factory: str) -> None:
    with Service("sock-serve", f"--factory=shouting.{factory}", "--port=0", cwd=folder) as service:
        for _ in range(2):
            with socket.socket() as victim:
                victim.settimeout(PATIENCE)
                victim.bind(("127.0.0.1", 0))
                port = victim.getsockname()[1]
                with contextlib.suppress(ConnectionResetError):  # it is aborted, at once
                    victim.connect(("127.0.0.1", service.port))
                    assert read_all(victim) == b""
                service.err.wait_for(
                    f"{factory} failed on a new connection from 127.0.0.1, port {port}\n"
                )
        service.err.wait_for("RuntimeError: no start")


def test_a_datagram_protocol_that_raises_costs_its_own_datagram_only(folder: Path) -> None:
    with Service(
        "sock-serve", "--factory=shouting.FragileDatagrams", "--port=0", cwd=folder
    ) as service:
        with service.connect_datagrams() as client:
            client.send(b"break")
            client.send(b"fine")
            assert client.recv(100) == b"fine"
            port = client.getsockname()[1]
        service.err.wait_for(
            f"FragileDatagrams failed on a datagram of 5 bytes from 127.0.0.1, port {port}\n"
        )
        service.err.wait_for("RuntimeError: broken by its peer")
        assert "Traceback" in service.err.text


# Packages that declare services. Each is a folder on the path, as an installed one would be.

_DECLARATION = """
from sockservices import SocketServiceMaker

shout = SocketServiceMaker(
    "shout", "Answers louder.", stream="shouting.Attrs", datagram="shouting.Datagrams"
)
"""


def _package(folder: Path, name: str, declaration: str, entry_points: str) -> None:
    (folder / f"{name}_declarations.py").write_text(declaration)
    metadata = folder / f"{name}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[sockservices.services]\n{entry_points}\n")


@pytest.fixture
def packages(folder: Path) -> dict[str, str]:
    """Give the environment in which a good package and a broken one are installed."""
    _package(folder, "loud", _DECLARATION, "shout = loud_declarations:shout")
    _package(
        folder,
        "broken",
        "import no_such_module",
        "abroken = broken_declarations:x\nzbroken = broken_declarations:x",
    )
    return {"PYTHONPATH": str(folder)}


def test_an_entry_point_is_a_service(folder: Path, packages: dict[str, str]) -> None:
    with Service("sock", "shout", "--port=0", "--mark=?", cwd=folder, env=packages) as service:
        with service.connect() as client:
            client.sendall(b"hi")
            assert client.recv(100) == b"HI?"


def test_sock_lists_the_entry_points_and_tells_the_broken(
    folder: Path, packages: dict[str, str]
) -> None:
    done = run(BIN / "twistd", "sock", "--help", cwd=folder, env=packages)
    said = " ".join(done.stdout.decode().split())
    assert done.returncode == 0
    assert "shout Answers louder." in said
    assert "hexdump Prints each datagram" in said
    assert "abroken (broken: cannot import broken_declarations:x: ModuleNotFoundError" in said


@pytest.mark.parametrize(
    ("arguments", "status", "line"),
    [
        (
            ["zbroken", "--port=0"],
            1,
            "sock zbroken: cannot import broken_declarations:x: "
            "ModuleNotFoundError: No module named 'no_such_module' (broken_declarations.py:1)",
        ),
        (
            ["none"],
            2,
            "sock: Unknown command: none; available: abroken, ack, counter, echo, "
            "hello, hexdump, shout, zbroken",
        ),
        (
            [],
            2,
            "sock: No service given; available: abroken, ack, counter, echo, hello, hexdump, "
            "shout, zbroken",
        ),
        (["shout", "--port=x"], 2, "sock shout: --port: 'x' is not a whole number from 0 to 65535"),
    ],
)
def test_sock_refuses_in_one_line(
    folder: Path, packages: dict[str, str], arguments: list[str], status: int, line: str
) -> None:
    done = run(BIN / "twistd", "-n", "sock", *arguments, cwd=folder, env=packages)
    assert done.stderr.decode() == f"twistd: {line}\n"
    assert (done.returncode, done.stdout) == (status, b"")


def test_a_strangers_twistd_plugin_is_a_command(folder: Path) -> None:
    plugins = folder / "twisted" / "plugins"
    plugins.mkdir(parents=True)
    (plugins / "shout.py").write_text(_DECLARATION)
    env = {"PYTHONPATH": str(folder)}
    with Service("shout", "--port=0", cwd=folder, env=env) as service:
        with service.connect() as client:
            client.sendall(b"hi")
            assert client.recv(100) == b"HI!"


def test_a_broken_foreign_plugin_does_not_hide_ours(folder: Path) -> None:
    plugins = folder / "twisted" / "plugins"
    plugins.mkdir(parents=True)
    (plugins / "broken.py").write_text("import no_such_module")
    with Service("sock-hello", "--port=0", cwd=folder, env={"PYTHONPATH": str(folder)}) as service:
        with service.connect() as client:
            assert read_all(client) == b"Hello, world!\n"


def test_refresh_mends_a_cache_that_is_newer_than_a_changed_plugin(folder: Path) -> None:
    plugins = folder / "twisted" / "plugins"
    plugins.mkdir(parents=True)
    env = {"PYTHONPATH": str(folder)}
    (plugins / "shout.py").write_text(_DECLARATION)
    assert b"Answers louder." in run(BIN / "twistd", "--help", cwd=folder, env=env).stdout
    # As in an image layer: another content, with a time before the cache's.
    shutil.rmtree(plugins / "__pycache__", ignore_errors=True)
    (plugins / "shout.py").write_text(_DECLARATION.replace("shout =", "renamed ="))
    os.utime(plugins / "shout.py", (1, 1))
    assert b"Answers louder." not in run(BIN / "twistd", "--help", cwd=folder, env=env).stdout

    done = run(BIN / "sockservices", "refresh", cwd=folder, env=env)
    assert (done.returncode, done.stderr) == (0, b"")
    assert str(plugins).encode() in done.stdout
    assert b"Answers louder." in run(BIN / "twistd", "--help", cwd=folder, env=env).stdout


def test_sock_needs_no_cache(folder: Path, packages: dict[str, str]) -> None:
    """An entry point's declaration may be renamed at will: nothing remembers the old one."""
    (folder / "loud_declarations.py").write_text(_DECLARATION.replace("shout =", "renamed ="))
    (folder / "loud-1.0.dist-info" / "entry_points.txt").write_text(
        "[sockservices.services]\nshout = loud_declarations:renamed\n"
    )
    with Service("sock", "shout", "--port=0", cwd=folder, env=packages) as service:
        with service.connect() as client:
            client.sendall(b"hi")
            assert client.recv(100) == b"HI!"


def test_list_shows_all_of_them(folder: Path, packages: dict[str, str]) -> None:
    done = run(BIN / "sockservices", "list", cwd=folder, env=packages)
    assert (done.returncode, done.stderr) == (0, b"")
    said = done.stdout.decode()
    assert "sock-hexdump  (datagram, stream)\n    Prints each datagram" in said
    assert "--max-size" in said
    assert "sock shout  (stream, datagram)\n    Answers louder.\n" in said
    assert "--mark" in said
    assert "sock abroken\n    broken: cannot import broken_declarations:x" in said
    # Ours are twistd commands, and not listed a second time as entry points.
    assert "sock echo" not in said


def test_help_imports_no_service_and_no_reactor(tmp_path: Path) -> None:
    """Declarations are lazy: what ``twistd --help`` imports is looked at in ``sys.modules``."""
    script = (
        "import sys, contextlib, io\n"
        "sys.argv = ['twistd', '--help']\n"
        "from twisted.scripts.twistd import run\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()) as out:\n"
        "    run()\n"
        "assert 'sock-echo' in out.getvalue()\n"
        "print(*sorted(sys.modules))\n"
    )
    with Running([BIN / "python", "-c", script], tmp_path) as helping:
        assert helping.wait() == 0, helping.err.whole()
        modules = set(helping.out.whole().split())
    ours = {name for name in modules if name.startswith("sockservices")}
    assert ours == {
        "sockservices",
        "sockservices.twistd",
        "sockservices.twistd.declaration",
    }
    assert "twisted.internet.reactor" not in modules


_DATAGRAM_TYPE = """
from twisted.internet.defer import succeed
from twisted.plugin import IPlugin
from zope.interface import implementer
from sockservices import IDatagramServerEndpoint, IDatagramServerEndpointStringParser

@implementer(IDatagramServerEndpoint)
class Loopback:
    def __init__(self, reactor, port):
        self.reactor, self.port = reactor, port

    def listen(self, protocol):
        return succeed(self.reactor.listenUDP(self.port, protocol, interface="127.0.0.1"))

@implementer(IPlugin, IDatagramServerEndpointStringParser)
class Parser:
    prefix = "loopback"

    def parseDatagramServer(self, reactor, port):
        return Loopback(reactor, int(port))

parser = Parser()
"""


def test_other_packages_add_types_of_datagram_descriptions(folder: Path) -> None:
    plugins = folder / "twisted" / "plugins"
    plugins.mkdir(parents=True)
    (plugins / "loopback.py").write_text(_DATAGRAM_TYPE)
    env = {"PYTHONPATH": str(folder)}
    with Service("sock-echo", "--listen=loopback:0", cwd=folder, env=env) as service:
        with service.connect_datagrams() as client:
            client.send(b"hi")
            assert client.recv(100) == b"hi"
    wrong = run(
        *(BIN / "twistd", "-n", "sock-echo", "--listen=loopback:x"),
        cwd=folder,
        env=env,
    )
    assert wrong.returncode == 1
    assert wrong.stderr == (
        b"twistd: sock-echo: in 'loopback:x': invalid literal for int() with base 10: 'x'\n"
    )
