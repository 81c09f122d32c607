"""``--reload``: a change of the source is there at the next connection, on the same socket."""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.system.processes import BIN, PATIENCE, TWISTD, Running, Service, read_all, run

PLUGIN = """
from sockservices import SocketServiceMaker
talk = SocketServiceMaker("talk", "Talks.", stream="talking.TalkFactory", datagram="talking.Reply")
"""

SOURCE = """
import attrs
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol

class Talk(Protocol):
    def connectionMade(self):
        self.transport.write({word!r}.encode())
    def dataReceived(self, data):
        self.transport.write(data)
        self.transport.loseConnection()

class TalkFactory(Factory):
    protocol = Talk
    noisy = False

class Reply(DatagramProtocol):
    noisy = False
    def datagramReceived(self, data, peer):
        self.transport.write({word!r}.encode(), peer)
"""

HANGING = "import time; print('hanging', flush=True); time.sleep(600)"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    plugins = tmp_path / "twisted" / "plugins"
    plugins.mkdir(parents=True)
    (plugins / "talk.py").write_text(PLUGIN)
    (tmp_path / "talking.py").write_text(SOURCE.format(word="one"))
    return tmp_path


LISTEN = ("--listen=tcp:0:interface=127.0.0.1", "--listen=udp:0:interface=127.0.0.1")


class Talking(Running):
    """The service, supervised; waits until it listens and is watched."""

    def __init__(
        self,
        folder: Path,
        *options: str,
        command: Sequence[str | Path] = TWISTD,
        said: str = "watching ",
    ) -> None:
        self._folder = folder
        super().__init__(
            [*command, "talk", "--reload", *LISTEN, *options],
            folder,
            env=_environment(folder),
        )
        where = self.err.wait_for(r"listening on tcp:127\.0\.0\.1:(\d+) udp:127\.0\.0\.1:(\d+)\n")
        self.tcp, self.udp = int(where[1]), int(where[2])
        self.err.wait_for(said)
        self._loaded = 0
        self.wait_for_another()

    def change(self, text: str) -> None:
        """Change the source at once: half of it would be a change of its own."""
        whole = self._folder / "talking.new"
        whole.write_text(text)
        whole.replace(self._folder / "talking.py")

    def wait_for_another(self) -> None:
        self._loaded += 1
        self.err.wait_for("the code is loaded", self._loaded)

    def children(self) -> list[int]:
        return _children(self.process.pid)

    def hears(self) -> bytes:
        with socket.create_connection(("127.0.0.1", self.tcp), PATIENCE) as client:
            return client.recv(10)


def _environment(folder: Path) -> dict[str, str]:
    return {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}


def _children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _wait_for_end(pid: int) -> None:
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    ended, _, _ = select.select([process], [], [], PATIENCE)
    os.close(process)
    assert ended


def test_a_change_is_there_on_the_same_socket(folder: Path) -> None:
    with Talking(folder, "--graceful-timeout=60") as talk:
        old = socket.create_connection(("127.0.0.1", talk.tcp), PATIENCE)
        with old, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
            assert old.recv(10) == b"one"
            datagrams.settimeout(PATIENCE)
            datagrams.connect(("127.0.0.1", talk.udp))
            datagrams.send(b"?")
            assert datagrams.recv(10) == b"one"
            talk.change(SOURCE.format(word="two"))
            talk.wait_for_another()
            talk.err.wait_for("stopping: 1 connection remains")
            assert talk.hears() == b"two"
            datagrams.send(b"?")
            assert datagrams.recv(10) == b"two"
            old.sendall(b"still here")  # the old code finishes what it has begun
            assert read_all(old) == b"still here"
        assert talk.stop() == 0
        assert "Traceback" not in talk.err.text
    assert not (folder / "twistd.pid").exists()


# Found before the library of that name, whose place the library then takes.
WATCHING = """
import os, sys, time
sys.path.remove({folder!r})
del sys.modules["watchfiles"]
import watchfiles.main
RustNotify = watchfiles.main.RustNotify
def notify(*args):
    made = RustNotify(*args)
    time.sleep(0.3)  # what was begun too early is seen
    with open(f"/proc/self/task/{{os.getpid()}}/children") as children:
        print("begun before:", children.read().split(), flush=True)
    return made
watchfiles.main.RustNotify = notify
"""


def test_no_change_comes_between_loading_and_watching(folder: Path) -> None:
    (folder / "watchfiles.py").write_text(WATCHING.format(folder=str(folder)))
    with Talking(folder) as talk:
        talk.err.wait_for(r"begun before: \[\]\n")
        assert talk.stop() == 0


@pytest.mark.parametrize(
    ("library", "said"),
    [
        ("raise ImportError('none here')", "none here"),
        ("class PythonFilter: pass\ndef watch(*_, **__): yield 1 / 0", "division by zero"),
        ("class PythonFilter: pass\ndef watch(*_, **__): yield from ()", "the watcher has stopped"),
        ("class PythonFilter: pass\ndef watch(*_, **__): yield exit('panic')", "panic"),
    ],
)
def test_what_cannot_be_watched_is_served_all_the_same(
    folder: Path, library: str, said: str
) -> None:
    (folder / "watchfiles.py").write_text(library)
    with Talking(folder, said=f"no longer watching for changes: {said}") as talk:
        assert talk.hears() == b"one"
        assert talk.stop() == 0
        assert "Traceback" not in talk.err.text


def test_when_nothing_can_be_started_it_ends_with_a_line(folder: Path) -> None:
    (folder / ("long" * 30)).mkdir()  # there is no room for the name of a socket
    command: tuple[str | Path, ...] = (*TWISTD, "talk", "--reload", "--port=0")
    env = _environment(folder) | {"TMPDIR": str(folder / ("long" * 30))}
    with Running(command, folder, env=env) as supervisor:
        assert supervisor.wait() == 1
        supervisor.err.wait_for("twistd: cannot start a process: .*AF_UNIX path too long")
        assert "Traceback" not in supervisor.err.text


def test_what_cannot_be_loaded_is_shown_and_the_old_code_keeps_serving(folder: Path) -> None:
    with Talking(folder) as talk:
        talk.change("def broken(:\n")
        talk.err.wait_for(
            "talk: cannot import 'talking.TalkFactory': SyntaxError: .* \\(talking.py:1\\)\n"
        )
        assert "\n    def broken(:\n" in talk.err.text
        talk.err.wait_for("the change could not be loaded: the old code keeps serving")
        assert talk.hears() == b"one"
        talk.change(SOURCE.format(word="three"))
        talk.wait_for_another()
        talk.err.wait_for("stopped: ")
        assert talk.hears() == b"three"
        assert talk.stop() == 0


def test_one_that_dies_is_started_after_the_next_change(folder: Path) -> None:
    with Talking(folder) as talk:
        [child] = talk.children()
        os.kill(child, signal.SIGKILL)
        talk.err.wait_for("the service has exited; it will restart")
        talk.change(SOURCE.format(word="four"))
        talk.wait_for_another()
        assert talk.hears() == b"four"
        assert talk.stop() == 0


def test_one_that_never_comes_to_listen_gives_way_to_the_next_change(folder: Path) -> None:
    with Talking(folder) as talk:
        talk.change(HANGING)
        talk.out.wait_for("hanging")
        assert talk.hears() == b"one"
        before = talk.children()
        assert len(before) == 2
        talk.change(SOURCE.format(word="five"))
        talk.wait_for_another()
        talk.err.wait_for("stopped: ")  # until then the old one may be faster
        assert talk.hears() == b"five"
        for each in before:
            _wait_for_end(each)
        assert talk.stop() == 0


def test_a_stop_is_no_loss_of_listeners(folder: Path) -> None:
    with Talking(folder) as talk:
        talk.err.wait_for("the code is loaded")
        assert talk.stop() == 0
        assert "no longer listens" not in talk.err.whole()


def test_a_stop_lets_the_old_code_finish(folder: Path) -> None:
    with Talking(folder, "--graceful-timeout=60") as talk:
        with socket.create_connection(("127.0.0.1", talk.tcp), PATIENCE) as old:
            assert old.recv(10) == b"one"
            talk.change(SOURCE.format(word="nine"))
            talk.wait_for_another()
            talk.err.wait_for("stopping: 1 connection remains")
            talk.process.send_signal(signal.SIGTERM)
            talk.err.wait_for("stopped: ")  # by the new code, which has none
            old.sendall(b"to the end")
            assert read_all(old) == b"to the end"
        assert talk.wait() == 0


def test_a_stop_ends_one_that_starts(folder: Path) -> None:
    with Talking(folder) as talk:
        talk.change(HANGING)
        talk.out.wait_for("hanging")
        children = talk.children()
        assert len(children) == 2
        assert talk.stop() == 0
        for each in children:
            _wait_for_end(each)
        assert "could not be loaded" not in talk.err.text


def test_nobody_goes_on_serving_when_the_supervisor_is_killed(folder: Path) -> None:
    with Talking(folder) as talk:
        [child] = talk.children()
        talk.process.kill()
        talk.wait()
        talk.err.wait_for("stopped: ")
        _wait_for_end(child)


def test_nor_when_it_is_killed_before_they_serve(folder: Path) -> None:
    (folder / "talking.py").write_text("print('loading', flush=True)\n" + SOURCE.format(word="x"))
    command: tuple[str | Path, ...] = (*TWISTD, "talk", "--reload", "--port=0")
    with Running(command, folder, env=_environment(folder)) as supervisor:
        supervisor.out.wait_for("loading", 2)  # by the supervisor, and by the other
        [child] = _children(supervisor.process.pid)
        supervisor.process.kill()
        supervisor.wait()
        _wait_for_end(child)


@pytest.mark.parametrize("options", [(), ("--reload",)])
def test_what_a_service_begins_itself_is_its_own(folder: Path, options: tuple[str, ...]) -> None:
    inherited = {"SOCKSERVICES_RELOADED": "systemd:index=0", "SOCKSERVICES_SUPERVISOR": "1"}
    inherited |= {"SOCKSERVICES_SUPERVISED": "1", "SOCKSERVICES_SUSPENDED": "1"}
    with Service("sock-echo", "--port=0", *options, cwd=folder, env=inherited) as other:
        with other.connect() as peer:
            peer.sendall(b"here")
            assert peer.recv(10) == b"here"
        assert other.stop() == 0


def test_a_pause_outlives_a_change(folder: Path) -> None:
    with Talking(folder) as talk:
        talk.process.send_signal(signal.SIGUSR2)
        talk.err.wait_for("suspended: 0 live connections")
        with socket.create_connection(("127.0.0.1", talk.tcp), PATIENCE) as client:
            talk.change(SOURCE.format(word="six"))
            talk.wait_for_another()
            talk.err.wait_for("stopped: ")
            assert select.select([client], [], [], 0)[0] == []
            talk.process.send_signal(signal.SIGUSR2)
            assert client.recv(10) == b"six"
        assert talk.stop() == 0


def test_one_that_ends_is_not_resumed(folder: Path) -> None:
    with Talking(folder) as talk:
        talk.process.send_signal(signal.SIGUSR2)
        talk.err.wait_for("suspended: 0 live connections")
        [old] = talk.children()
        os.kill(old, signal.SIGSTOP)  # it hears of its end only later, and of all else with that
        try:
            talk.change(SOURCE.format(word="eight"))
            talk.wait_for_another()
            talk.process.send_signal(signal.SIGUSR2)
            talk.err.wait_for("resumed")
        finally:
            os.kill(old, signal.SIGCONT)
        _wait_for_end(old)
        assert talk.hears() == b"eight"
        assert talk.stop() == 0
        assert talk.err.whole().count("resumed") == 1


@pytest.mark.parametrize(
    ("number", "then"), [(signal.SIGHUP, "reloaded: networks"), (signal.SIGUSR2, "suspended: 0")]
)
def test_a_signal_waits_for_the_one_that_starts(
    folder: Path, number: signal.Signals, then: str
) -> None:
    gate = folder / "gate"
    os.mkfifo(gate)
    (folder / "denied").write_text("192.0.2.0/24\n")
    # Opened for both, so that neither side waits for the other.
    with gate.open("r+b", 0) as opener, Talking(folder, "--deny-file=denied") as talk:
        opening = f"print('opening', flush=True); open({str(gate)!r}).read(1)\n"
        talk.change(opening + SOURCE.format(word="seven"))
        talk.out.wait_for("opening")
        talk.process.send_signal(number)
        talk.err.wait_for(then)
        opener.write(b"!")
        talk.wait_for_another()
        talk.err.wait_for(then, 2)
        if number == signal.SIGUSR2:
            talk.process.send_signal(number)
        talk.err.wait_for("stopped: ")
        assert talk.hears() == b"seven"
        assert talk.stop() == 0


@pytest.mark.parametrize(
    "command",
    [
        (BIN / "twist", "--log-format=text", "--log-file=+"),
        (sys.executable, "-m", "twisted", "--log-format=text", "--log-file=+"),
        (*TWISTD, "--rundir=elsewhere"),
        (*TWISTD, "--prefix", "talk"),
    ],
    ids=["twist", "python -m twisted", "another folder", "a name that is the command's"],
)
def test_the_command_is_given_again_as_it_was(
    folder: Path, command: tuple[str | Path, ...]
) -> None:
    (folder / "elsewhere").mkdir()
    with Talking(folder, command=command) as talk:
        assert talk.hears() == b"one"
        talk.change(SOURCE.format(word="seven"))
        talk.wait_for_another()
        talk.err.wait_for("stopped: ")  # until then the old one may be faster
        assert talk.hears() == b"seven"
        talk.stop()
        assert "Traceback" not in talk.err.text


def test_folders_that_nobody_may_read_are_left_out(folder: Path) -> None:
    (folder / "closed").mkdir(mode=0)
    with Talking(folder) as talk:
        talk.change(SOURCE.format(word="eight"))
        talk.wait_for_another()
        assert talk.stop() == 0
        assert "Traceback" not in talk.err.text


def test_ctrl_c_ends_all_in_order(folder: Path) -> None:
    with Talking(folder, "--graceful-timeout=60") as talk:
        with socket.create_connection(("127.0.0.1", talk.tcp), PATIENCE) as client:
            assert client.recv(10) == b"one"
            talk.process.send_signal(signal.SIGINT)
            talk.err.wait_for("stopping: 1 connection remains")
            client.sendall(b"x")
            assert read_all(client) == b"x"
        assert talk.wait() == 0
        talk.err.wait_for("stopped: 1 connection finished, 0 were reset")


@pytest.mark.parametrize(
    ("command", "status", "said"),
    [
        (
            ("twistd", "sock-echo", "--reload", "--port=0"),
            2,
            "works only in the foreground: use twistd -n",
        ),
        (("twistd", "-n", "sock-echo", "--reload", "--listen=ssl:0"), 1, "'ssl:0'"),
        (
            ("twistd", "-n", "sock-hello", "--reload", "--listen=udp:0"),
            1,
            "'udp:0' is for datagrams, which sock-hello does not serve",
        ),
        (
            ("twistd", "-n", "sock-echo", "--reload", "--listen=haproxy:tcp:0"),
            1,
            "--reload does not support 'haproxy:tcp:0', only tcp, tcp6, unix, udp, unixgram",
        ),
    ],
)
def test_what_cannot_be_is_one_line(
    tmp_path: Path, command: tuple[str, ...], status: int, said: str
) -> None:
    done = run(TWISTD[0], *command[1:], cwd=tmp_path)
    assert done.returncode == status
    assert said in done.stderr.decode()
    assert done.stderr.count(b"\n") == 1
