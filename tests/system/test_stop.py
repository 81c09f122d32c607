"""A stop: what is written is delivered, work may be finished, and nothing waits for ever."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import threading
import time
from pathlib import Path

import pytest

from tests.system.processes import PATIENCE, Service, read_all

TRANSFER = os.urandom(1 << 20)
LISTEN = "--listen=tcp:0:interface=127.0.0.1"


def _transfer(port: int, half_way: threading.Barrier, results: list[bytes]) -> None:
    """Send half, wait for all others, send the rest; collect what comes back."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
        half = len(TRANSFER) // 2
        client.sendall(TRANSFER[:1000])
        received = bytearray(client.recv(1))  # it is served
        reader = threading.Thread(target=lambda: received.extend(read_all(client)))
        reader.start()
        client.sendall(TRANSFER[1000:half])
        half_way.wait(PATIENCE)
        half_way.wait(PATIENCE)  # meanwhile the service has been told to stop
        client.sendall(TRANSFER[half:])
        client.shutdown(socket.SHUT_WR)
        reader.join(PATIENCE)
        results.append(bytes(received))


@pytest.mark.parametrize("reactor", ["default", "eager"])
def test_200_transfers_are_finished(tmp_path: Path, reactor: str) -> None:
    count = 200
    half_way = threading.Barrier(count + 1)
    results: list[bytes] = []
    with Service(
        *(f"--reactor={reactor}", "sock-echo", LISTEN, "--graceful-timeout=10"), cwd=tmp_path
    ) as echo:
        clients = [
            threading.Thread(target=_transfer, args=(echo.port, half_way, results))
            for _ in range(count)
        ]
        for client in clients:
            client.start()
        half_way.wait(PATIENCE)
        echo.process.send_signal(signal.SIGTERM)
        echo.err.wait_for(r"stopping: 200 connections remain, 10 s left")
        with pytest.raises(ConnectionRefusedError):
            echo.connect()
        half_way.wait(PATIENCE)
        for client in clients:
            client.join()
        assert echo.wait() == 0
        echo.err.wait_for("stopped: 200 connections finished, 0 were reset")
    assert len(results) == count
    assert set(results) == {TRANSFER}


SERVICES = """
from twisted.internet.protocol import Factory, Protocol
from zope.interface import implementer
from sockservices import IDrainable

class Filling(Protocol):
    def connectionMade(self):
        self.transport.write(b"x" * (50 << 20))

class Pouring(Protocol):
    # Pours out what it has, whatever comes in.
    def connectionMade(self):
        self.transport.write(b"x" * (8 << 20))

@implementer(IDrainable)
class Parting(Protocol):
    def connectionMade(self):
        self.transport.write(b"hello\\n")
    def drain(self):
        self.transport.write(b"good-bye\\n")
        self.transport.loseConnection()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "others.py").write_text(SERVICES)
    return tmp_path


@pytest.mark.parametrize("options", [[], ["--stock-transports"]], ids=["eager", "stock"])
def test_who_does_not_read_is_cut_and_counted(folder: Path, options: list[str]) -> None:
    with Service(
        *("sock-serve", "--factory=others.Filling", LISTEN, "--flush=0.5", *options), cwd=folder
    ) as filling:
        with filling.connect() as slow:
            assert slow.recv(1) == b"x"
            assert filling.stop() == 0
            filling.err.wait_for("stopped: 0 connections finished, 1 was reset")


def _descriptors(service: Service) -> int:
    return len(os.listdir(f"/proc/{service.process.pid}/fd"))


@pytest.mark.parametrize("options", [[], ["--stock-transports"]], ids=["eager", "stock"])
def test_who_reads_gets_all_beside_one_that_does_not(folder: Path, options: list[str]) -> None:
    with Service(
        *("sock-serve", "--factory=others.Filling", LISTEN, "--flush=600", *options), cwd=folder
    ) as filling:
        before = _descriptors(filling)
        with filling.connect() as slow, filling.connect() as reading:
            assert slow.recv(1) == reading.recv(1) == b"x"
            filling.process.send_signal(signal.SIGTERM)
            # This one reads, and gets all that was written before the stop.
            assert len(read_all(reading)) == (50 << 20) - 1
            for _ in range(3000):
                if _descriptors(filling) == before:  # the slow one's, in place of the listener's
                    break
                time.sleep(0.01)
            filling.process.send_signal(signal.SIGTERM)
            assert filling.wait() == 0
            filling.err.wait_for("stopped: 1 connection finished, 1 was reset")


def test_a_protocol_that_can_is_told_to_finish(folder: Path) -> None:
    with Service(
        *("sock-serve", "--factory=others.Parting", LISTEN, "--graceful-timeout=60"), cwd=folder
    ) as parting:
        with parting.connect() as client:
            client.settimeout(PATIENCE)
            assert client.recv(100) == b"hello\n"
            parting.process.send_signal(signal.SIGTERM)
            assert read_all(client) == b"good-bye\n"
        assert parting.wait() == 0
        parting.err.wait_for("stopped: 1 connection finished, 0 were reset")


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(
    tmp_path: Path, first: signal.Signals, second: signal.Signals
) -> None:
    with Service("sock-echo", LISTEN, "--graceful-timeout=3600", cwd=tmp_path) as echo:
        with echo.connect() as client:
            client.settimeout(PATIENCE)
            client.sendall(b"x")
            assert client.recv(1) == b"x"
            echo.process.send_signal(first)
            echo.err.wait_for("stopping: 1 connection remains, 3600 s left")
            echo.process.send_signal(second)
            with pytest.raises(ConnectionResetError):
                client.recv(1)
            assert echo.wait() == 0
        echo.err.wait_for("stopped: 0 connections finished, 1 was reset")
        assert "Traceback" not in echo.err.text


@pytest.mark.parametrize("options", [[], ["--stock-transports"]], ids=["eager", "stock"])
@pytest.mark.parametrize("listen", [LISTEN, "--listen=unix:socket"])
def test_who_waits_in_the_backlog_is_served(
    tmp_path: Path, listen: str, options: list[str]
) -> None:
    def connect() -> socket.socket:
        if listen == LISTEN:
            return echo.connect()
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(PATIENCE)
        client.connect(str(tmp_path / "socket"))
        return client

    arguments = ("sock-echo", listen, "--graceful-timeout=60", *options)
    with Service(*arguments, cwd=tmp_path) as echo, contextlib.ExitStack() as closing:
        clients = []
        for number in range(30):
            client = closing.enter_context(connect())
            clients.append(client)
            client.sendall(b"%d" % number)
            if number == 0:
                assert client.recv(10) == b"0"  # since when it expects one at a time
                echo.process.send_signal(signal.SIGSTOP)
        echo.process.send_signal(signal.SIGTERM)
        echo.process.send_signal(signal.SIGCONT)
        for number, client in enumerate(clients[1:], 1):
            assert client.recv(10) == b"%d" % number
        for client in clients:
            client.close()
        assert echo.wait() == 0
        echo.err.wait_for("stopped: 30 connections finished, 0 were reset")


def _answers(clients: list[socket.socket]) -> list[bytes]:
    answers = []
    for client in clients:
        client.settimeout(PATIENCE)
        answers.append(client.recv(100))
    return answers


@pytest.mark.parametrize("options", [[], ["--stock-transports"]], ids=["eager", "stock"])
def test_who_waits_while_it_is_suspended_is_served(tmp_path: Path, options: list[str]) -> None:
    with (
        Service("sock-hello", LISTEN, *options, cwd=tmp_path) as hello,
        contextlib.ExitStack() as closing,
    ):
        hello.process.send_signal(signal.SIGUSR2)
        hello.err.wait_for("suspended")
        clients = [closing.enter_context(hello.connect()) for _ in range(50)]
        hello.process.send_signal(signal.SIGTERM)
        assert _answers(clients) == [b"Hello, world!\n"] * 50
        assert hello.wait() == 0
        hello.err.wait_for("stopped: 50 connections finished, 0 were reset")


@pytest.mark.parametrize("reactor", ["default", "eager"])
@pytest.mark.parametrize("graceful_timeout", [0, 60])
def test_who_waits_for_a_place_is_served(
    tmp_path: Path, reactor: str, graceful_timeout: int
) -> None:
    arguments = (f"--reactor={reactor}", "sock-echo", LISTEN, "--once")
    limits = ("--max-connections=2", "--at-limit=wait")
    bounds = (f"--graceful-timeout={graceful_timeout}", "--flush=60")
    with (
        Service(*arguments, *limits, *bounds, cwd=tmp_path) as echo,
        contextlib.ExitStack() as closing,
    ):
        first = [closing.enter_context(echo.connect()) for _ in range(2)]
        waiting = [closing.enter_context(echo.connect()) for _ in range(20)]
        for client in waiting:
            client.sendall(b"hi")
        echo.process.send_signal(signal.SIGTERM)
        if graceful_timeout:  # without, the two are told to go
            echo.err.wait_for("stopping: 2 connections remain")
            for client in first:
                client.close()
        assert _answers(waiting) == [b"hi"] * 20
        assert echo.wait() == 0
        echo.err.wait_for("stopped: 22 connections finished, 0 were reset")


@pytest.mark.parametrize("reactor", ["default", "poll", "eager"])
def test_who_gets_a_place_as_the_stop_begins_is_served(tmp_path: Path, reactor: str) -> None:
    arguments = (f"--reactor={reactor}", "sock-echo", LISTEN, "--flush=60")
    limits = ("--max-connections=1", "--at-limit=wait")
    with Service(*arguments, *limits, cwd=tmp_path) as echo:
        with echo.connect() as first, echo.connect() as waiting:
            first.sendall(b"x")
            assert first.recv(1) == b"x"
            waiting.sendall(b"hi")
            # All in the service's next turn: the place, the signal, and who waits.
            echo.process.send_signal(signal.SIGSTOP)
            first.close()
            echo.process.send_signal(signal.SIGTERM)
            echo.process.send_signal(signal.SIGCONT)
            assert _answers([waiting]) == [b"hi"]
        assert echo.wait() == 0


def test_who_waits_for_a_descriptor_is_served(tmp_path: Path) -> None:
    arguments = ("sock-echo", LISTEN, "--graceful-timeout=60")
    with Service(*arguments, cwd=tmp_path) as echo, contextlib.ExitStack() as closing:
        limit = len(os.listdir(f"/proc/{echo.process.pid}/fd")) + 10
        resource.prlimit(echo.process.pid, resource.RLIMIT_NOFILE, (limit, limit))
        clients = [closing.enter_context(echo.connect()) for _ in range(30)]
        for client in clients:
            client.sendall(b"hi")
        echo.err.wait_for("new connections wait: Too many open files")
        echo.process.send_signal(signal.SIGTERM)
        for client in clients:
            assert _answers([client]) == [b"hi"]
            client.close()
        assert echo.wait() == 0
        echo.err.wait_for("stopped: 30 connections finished, 0 were reset")


def test_who_has_waited_in_vain_is_reset_when_the_time_is_over(tmp_path: Path) -> None:
    arguments = ("sock-echo", LISTEN, "--max-connections=1", "--at-limit=wait")
    with Service(*arguments, "--graceful-timeout=0.5", "--flush=0.5", cwd=tmp_path) as echo:
        with echo.connect() as first, echo.connect() as waiting:
            first.settimeout(PATIENCE)
            first.sendall(b"x")
            assert first.recv(1) == b"x"
            fill = b"x" * (1 << 16)
            first.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:  # it does not read what comes back, and so is not done in time
                    first.sendall(fill)
            echo.process.send_signal(signal.SIGTERM)
            waiting.settimeout(PATIENCE)
            with pytest.raises(ConnectionResetError):
                waiting.recv(1)
            assert echo.wait() == 0
        echo.err.wait_for("stopped: 0 connections finished, 1 was reset")


def test_an_idle_connection_does_not_hold_up_a_stop(tmp_path: Path) -> None:
    with Service("sock-echo", LISTEN, "--flush=3600", cwd=tmp_path) as echo:
        with echo.connect() as client:
            client.settimeout(PATIENCE)
            client.sendall(b"x")
            assert client.recv(1) == b"x"
            assert echo.stop() == 0
            assert client.recv(1) == b""
        echo.err.wait_for("stopped: 1 connection finished, 0 were reset")


@pytest.mark.parametrize("options", [[], ["--stock-transports"]], ids=["eager", "stock"])
@pytest.mark.parametrize("reactor", ["default", "eager"])
def test_a_peer_that_sends_all_the_time_gets_all_that_was_written(
    folder: Path, reactor: str, options: list[str]
) -> None:
    with Service(
        *(f"--reactor={reactor}", "sock-serve", "--factory=others.Pouring", LISTEN),
        *("--flush=20", *options),
        cwd=folder,
    ) as pouring:
        with pouring.connect() as client:
            client.settimeout(PATIENCE)
            stopped = threading.Event()

            def send() -> None:
                with contextlib.suppress(OSError):
                    while not stopped.is_set():
                        client.sendall(b"more " * 1000)

            sender = threading.Thread(target=send)
            sender.start()
            got = len(client.recv(1))
            pouring.process.send_signal(signal.SIGTERM)
            pouring.err.wait_for(r"Received SIGTERM|\(TCP Port \d+ Closed\)")
            with contextlib.suppress(ConnectionResetError):  # all has come before that
                while part := client.recv(1 << 16):
                    got += len(part)
            stopped.set()
            sender.join()
            assert got == 8 << 20
        assert pouring.wait() == 0
        pouring.err.wait_for("stopped: 1 connection finished, 0 were reset")


def test_datagrams_that_had_come_are_answered(tmp_path: Path) -> None:
    with Service("sock-echo", "--listen=udp:0:interface=127.0.0.1", cwd=tmp_path) as echo:
        with echo.connect_datagrams() as client:
            echo.process.send_signal(signal.SIGSTOP)
            sent = [b"%d" % each for each in range(100)]
            for each in sent:
                client.send(each)
            echo.process.send_signal(signal.SIGTERM)
            echo.process.send_signal(signal.SIGCONT)
            assert [client.recv(10) for _ in sent] == sent
        assert echo.wait() == 0


def test_datagrams_that_came_while_it_was_suspended_are_answered(tmp_path: Path) -> None:
    with Service("sock-echo", "--listen=udp:0:interface=127.0.0.1", cwd=tmp_path) as echo:
        with echo.connect_datagrams() as client:
            echo.process.send_signal(signal.SIGUSR2)
            echo.err.wait_for("suspended")
            sent = [b"%d" % each for each in range(20)]
            for each in sent:
                client.send(each)
            echo.process.send_signal(signal.SIGTERM)
            assert [client.recv(10) for _ in sent] == sent
        assert echo.wait() == 0


def test_answers_to_datagrams_are_delivered(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
        client.bind(str(tmp_path / "client"))
        client.settimeout(PATIENCE)
        with Service("sock-echo", "--listen=unixgram:s", "--flush=20", cwd=tmp_path) as echo:
            for number in range(60):  # more than a queue holds: net.unix.max_dgram_qlen
                client.sendto(b"%d" % number, str(tmp_path / "s"))
            echo.process.send_signal(signal.SIGTERM)
            echo.err.wait_for("stopped: 0 connections finished")
            assert [client.recv(10) for _ in range(60)] == [b"%d" % each for each in range(60)]
            assert echo.wait() == 0
        assert "could not be sent" not in echo.err.text


def test_a_second_signal_gives_up_answers_to_datagrams(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
        client.bind(str(tmp_path / "client"))
        with Service("sock-echo", "--listen=unixgram:s", "--flush=600", cwd=tmp_path) as echo:
            for number in range(60):
                client.sendto(b"%d" % number, str(tmp_path / "s"))
            echo.process.send_signal(signal.SIGTERM)
            echo.err.wait_for("stopped: 0 connections finished")
            echo.process.send_signal(signal.SIGTERM)
            assert echo.wait() == 0
            echo.err.wait_for("[0-9]+ datagrams could not be sent")
