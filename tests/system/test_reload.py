"""``--reload``: a change of the source is there at the next connection, on the same socket."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

from tests.system.processes import PATIENCE, TWISTD, Running, read_all, run

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

    def __init__(self, folder: Path, *options: str) -> None:
        self._folder = folder
        super().__init__(
            [*TWISTD, "talk", "--reload", *LISTEN, *options],
            folder,
            env={"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
        )
        where = self.err.wait_for(r"listening on tcp:127\.0\.0\.1:(\d+) udp:127\.0\.0\.1:(\d+)\n")
        self.tcp, self.udp = int(where[1]), int(where[2])
        self.err.wait_for("watching ")
        self._listened = 1

    def change(self, text: str) -> None:
        (self._folder / "talking.py").write_text(text)

    def wait_for_another(self) -> None:
        self._listened += 1
        self.err.wait_for(f"(listening on tcp(.|\n)*){{{self._listened}}}")

    def hears(self) -> bytes:
        with socket.create_connection(("127.0.0.1", self.tcp), PATIENCE) as client:
            return client.recv(10)


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
            talk.err.wait_for("stopping: 1 connections remain")
            assert talk.hears() == b"two"
            datagrams.send(b"?")
            assert datagrams.recv(10) == b"two"
            old.sendall(b"still here")  # the old code finishes what it has begun
            assert read_all(old) == b"still here"
        assert talk.stop() == 0
        assert "Traceback" not in talk.err.text
    assert not (folder / "twistd.pid").exists()


def test_what_cannot_be_loaded_is_shown_and_the_old_code_keeps_serving(folder: Path) -> None:
    with Talking(folder) as talk:
        talk.change("def broken(:\n")
        talk.err.wait_for("talk: cannot import 'talking.TalkFactory': SyntaxError")
        talk.err.wait_for("the change could not be loaded: the old code keeps serving")
        assert talk.hears() == b"one"
        talk.change(SOURCE.format(word="three"))
        talk.wait_for_another()
        talk.err.wait_for("stopped: ")
        assert talk.hears() == b"three"
        assert talk.stop() == 0


def test_one_that_dies_is_started_after_the_next_change(folder: Path) -> None:
    with Talking(folder) as talk:
        [child] = (
            Path(f"/proc/{talk.process.pid}/task/{talk.process.pid}/children").read_text().split()
        )
        os.kill(int(child), signal.SIGKILL)
        talk.err.wait_for("the service has ended; it starts anew after the next change")
        talk.change(SOURCE.format(word="four"))
        talk.wait_for_another()
        assert talk.hears() == b"four"
        assert talk.stop() == 0


def test_ctrl_c_ends_all_in_order(folder: Path) -> None:
    with Talking(folder, "--graceful-timeout=60") as talk:
        with socket.create_connection(("127.0.0.1", talk.tcp), PATIENCE) as client:
            assert client.recv(10) == b"one"
            talk.process.send_signal(signal.SIGINT)
            talk.err.wait_for("stopping: 1 connections remain")
            client.sendall(b"x")
            assert read_all(client) == b"x"
        assert talk.wait() == 0
        talk.err.wait_for("stopped: 1 connections finished, 0 were cut")


@pytest.mark.parametrize(
    ("command", "status", "said"),
    [
        (("twistd", "sock-echo", "--reload", "--port=0"), 2, "is for the foreground: twistd -n"),
        (("twistd", "-n", "sock-echo", "--reload", "--listen=ssl:0"), 1, "'ssl:0'"),
        (
            ("twistd", "-n", "sock-echo", "--reload", "--listen=haproxy:tcp:0"),
            1,
            "'haproxy:tcp:0' cannot be reloaded: tcp, tcp6, unix, udp, unixgram, systemd",
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
