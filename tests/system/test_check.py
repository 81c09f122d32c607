"""``sockservices check``: finds what is planted in bad plugins, and nothing in ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system.processes import BIN, run

PLUGINS = """
import bad_heavy
from sockservices import SocketServiceMaker

heavy = SocketServiceMaker("heavy", "Imported early.", stream="bad_heavy.Factory")
silent = SocketServiceMaker("silent", " ", stream="bad_options.Silent")
unhelpful = SocketServiceMaker("unhelpful", "An option without help.", stream="bad_options.Bare")
clashing = SocketServiceMaker("clashing", "An option that all have.", stream="bad_options.Clash")
unknown = SocketServiceMaker("unknown", "Named wrongly.", stream="bad_options.Nothing")
mistaken = SocketServiceMaker("mistaken", "No factory.", stream="bad_options.FirstByte")
needy = SocketServiceMaker("needy", "Needs to be told.", stream="bad_options.Needy")
broken = SocketServiceMaker("broken", "Believes in UTF-8.", stream="bad_options.Decoding")
function = SocketServiceMaker("function", "Makes nothing.", stream="bad_options.make_nothing")
number = SocketServiceMaker("number", "Is no class.", stream="bad_options.NUMBER")
nameless = SocketServiceMaker("nameless", None, stream="bad_options.Silent")
several = SocketServiceMaker("several", "Fails in two ways.", stream="bad_options.Several")
leaving = SocketServiceMaker("leaving", "Ends the process.", stream="bad_options.Leaving")
nested = SocketServiceMaker("nested", "Imports a mistake.", stream="bad_nested.Factory")
half = SocketServiceMaker("half", "Bad datagrams.", datagram="bad_options.FirstByte")
"""

CROWD = """
import mailbox, multiprocessing.managers, sqlite3, wsgiref.simple_server, xmlrpc.client
from sockservices import SocketServiceMaker

crowded = SocketServiceMaker("crowded", "Brings a crowd.", stream="bad_options.Silent")
"""

HEAVY = """
from twisted.internet.protocol import Factory as Base, Protocol

class Factory(Base):
    protocol = Protocol
    noisy = False
"""

OPTIONS = """
import attrs
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from sockservices import setting

@attrs.define(eq=False, slots=False)
class Silent(Factory):
    protocol = Protocol
    noisy = False

@attrs.define(eq=False, slots=False)
class Bare(Silent):
    level: int = 3

@attrs.define(eq=False, slots=False)
class Clash(Silent):
    backlog: int = setting(default=3, help="How much.")

@attrs.define(eq=False, slots=False)
class Needy(Silent):
    secret: str = setting(help="What nobody knows.")

class Decoder(Protocol):
    def dataReceived(self, data):
        print(data.decode())

@attrs.define(eq=False, slots=False)
class Decoding(Silent):
    protocol = Decoder

NUMBER = 7

def make_nothing():
    pass

class TwoWays(Protocol):
    def dataReceived(self, data):
        data.decode()
        int(data[:1])

@attrs.define(eq=False, slots=False)
class Several(Silent):
    protocol = TwoWays

class Leaver(Protocol):
    def dataReceived(self, data):
        raise SystemExit(3)

@attrs.define(eq=False, slots=False)
class Leaving(Silent):
    protocol = Leaver

class FirstByte(DatagramProtocol):
    noisy = False
    def datagramReceived(self, data, peer):
        self.last = data[0]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    plugins = tmp_path / "twisted" / "plugins"
    plugins.mkdir(parents=True)
    (plugins / "bad_plugins.py").write_text(PLUGINS)
    (plugins / "bad_crowd.py").write_text(CROWD)
    (tmp_path / "bad_heavy.py").write_text(HEAVY)
    (tmp_path / "bad_options.py").write_text(OPTIONS)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("heavy", ["declaration: it imports bad_heavy whenever twistd starts"]),
        ("silent", ["declaration: it has no description for twistd --help"]),
        ("nameless", ["declaration: it has no description for twistd --help"]),
        ("function", ["seen:  NoneType is not a protocol factory"]),
        (
            "number",
            ["declaration: stream='bad_options.NUMBER' is an int; expected a protocol factory, "],
        ),
        ("several", ["stream: no input raises an exception", "seen:  "]),
        ("leaving", ["seen:  SystemExit: 3 (bad_options.py:"]),
        ("crowded", ["declaration: it imports ", " modules, most of them of "]),
        ("unhelpful", ["declaration: --level has no help text"]),
        ("clashing", ["declaration: --backlog is an option that every service has"]),
        ("unknown", ["declaration: cannot import 'bad_options.Nothing'"]),
        (
            "mistaken",
            ["declaration: stream='bad_options.FirstByte' is a datagram protocol; declare"],
        ),
        (
            "broken",
            [
                "stream: no input raises an exception",
                "rule:  no input raises an exception",
                "input: b'",
                "seen:  UnicodeDecodeError",
                "hint:  bytes from the network may be anything",
            ],
        ),
        (
            "half",
            ["datagram: no datagram raises an exception", "input: b'' from", "seen:  IndexError"],
        ),
    ],
)
def test_a_planted_fault_is_found(folder: Path, name: str, said: list[str]) -> None:
    done = run(BIN / "sockservices", "check", name, cwd=folder, env={"PYTHONPATH": str(folder)})
    text = done.stdout.decode()
    assert done.returncode == 1
    for each in said:
        assert each in text
    assert done.stderr.decode().splitlines()[-1].startswith(f"sockservices check: {name}: ")
    assert "Traceback" not in text + done.stderr.decode()


def test_where_an_author_has_made_a_mistake_is_shown(folder: Path) -> None:
    (folder / "bad_nested.py").write_text("import bad_mistake\n")
    (folder / "bad_mistake.py").write_text("CONFIGURATION = {}\n\nPORT = CONFIGURATION['port']\n")
    command = (BIN / "sockservices", "check", "nested")
    done = run(*command, cwd=folder, env={"PYTHONPATH": str(folder)})
    assert done.returncode == 1
    assert done.stdout.decode() == (
        "declaration: cannot import 'bad_nested.Factory': KeyError: 'port' (bad_mistake.py:3)\n"
    )
    said = done.stderr.decode()
    assert said.startswith(
        "Traceback (most recent call last):\n"
        f'  File "{folder}/bad_nested.py", line 1, in <module>\n'
    )
    assert "\nKeyError: 'port'\nsockservices check: nested: what it declares cannot be" in said


def test_what_it_needs_can_be_given(folder: Path) -> None:
    command = (BIN / "sockservices", "check", "needy")
    path = {"PYTHONPATH": str(folder)}
    done = run(*command, cwd=folder, env=path)
    assert done.returncode == 1
    assert b"Needy needs --with secret\n" in done.stderr
    assert run(*command, "--with", "secret=x", cwd=folder, env=path).returncode == 0
    wrong = run(*command, "--with", "x", cwd=folder, env=path)
    assert (wrong.returncode, wrong.stderr.count(b"\n")) == (2, 1)


@pytest.mark.parametrize("name", ["ack", "counter", "echo", "hello", "hexdump"])
def test_in_ours_nothing_is_found(tmp_path: Path, name: str) -> None:
    done = run(BIN / "sockservices", "check", f"sock-{name}", cwd=tmp_path)
    assert done.stdout.decode() == f"sock-{name}: nothing found\n"
    assert done.returncode == 0


def test_a_service_that_is_not_there(tmp_path: Path) -> None:
    done = run(BIN / "sockservices", "check", "nothing", cwd=tmp_path)
    assert done.returncode == 1
    assert b"there is no service 'nothing'; there are" in done.stderr
