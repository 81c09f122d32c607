"""sock-counter, sock-hello and sock-ack as an operator runs them."""

from __future__ import annotations

import os
import signal
import socket
import threading
from pathlib import Path

import pytest

from tests.system.processes import PATIENCE, Service, needs, read_all, run


def test_the_counter_counts_from_one_over_all_its_listeners(tmp_path: Path) -> None:
    with Service("sock-counter", "--port=0", "--socket=s", cwd=tmp_path) as counter:
        with counter.connect() as client:
            assert read_all(client) == b"Connection 1!\n"
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(tmp_path / "s"))
            assert read_all(client) == b"Connection 2!\n"


def test_the_counter_gives_each_of_many_at_once_a_number_of_its_own(tmp_path: Path) -> None:
    with Service("sock-counter", "--port=0", cwd=tmp_path) as counter:
        answers: list[bytes] = []

        def ask() -> None:
            for _ in range(25):
                with counter.connect() as client:
                    answers.append(read_all(client))

        askers = [threading.Thread(target=ask) for _ in range(8)]
        for asker in askers:
            asker.start()
        for asker in askers:
            asker.join(PATIENCE)
    assert sorted(answers) == sorted(b"Connection %d!\n" % number for number in range(1, 201))


@pytest.mark.parametrize(
    ("command", "options", "said"),
    [
        ("sock-counter", ["--greeting", r"You are {}\tof {}\n"], b"You are 1\tof 1\n"),
        ("sock-hello", [], b"Hello, world!\n"),
        ("sock-hello", ["--message", r"Gr\xfc\xdf dich\r\n"], "Grüß dich\r\n".encode()),
    ],
)
def test_greetings(tmp_path: Path, command: str, options: list[str], said: bytes) -> None:
    with Service(command, "--port=0", *options, cwd=tmp_path) as service:
        with service.connect() as client:
            assert read_all(client) == said


@needs("socat")
def test_socat_is_greeted_over_a_unix_socket(tmp_path: Path) -> None:
    with Service("sock-hello", "--socket=s", cwd=tmp_path):
        assert run("socat", "-u", "UNIX:s", "-", cwd=tmp_path).stdout == b"Hello, world!\n"


@pytest.mark.parametrize(
    ("options", "reply"),
    [([], b"I got your message"), (["--reply", r"Thanks\n"], b"Thanks\n")],
)
def test_ack_prints_answers_and_closes(tmp_path: Path, options: list[str], reply: bytes) -> None:
    with Service("sock-ack", "--port=0", *options, cwd=tmp_path) as ack:
        with ack.connect() as client:
            client.sendall(b"Please enter the message\n")
            assert read_all(client) == reply
        ack.out.wait_for("Here is the message: Please enter the message\n")


def test_ack_acknowledges_only_what_it_has_printed(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with open(writing, "wb") as stdout:
        ack = Service("sock-ack", "--port=0", cwd=tmp_path, stdout=stdout)
    message = b"x" * 30000
    with ack, open(reading, "rb") as late:
        clients = [ack.connect() for _ in range(4)]  # the pipe takes the first two
        for client in clients:
            client.sendall(message)
        assert clients[0].recv(100) == b"I got your message"
        clients[3].setblocking(False)
        with pytest.raises(BlockingIOError):
            clients[3].recv(100)
        printed = [late.readline() for _ in range(4)]
        clients[3].settimeout(PATIENCE)
        assert read_all(clients[3]) == b"I got your message"
        for client in clients:
            client.close()
    assert {line[:21] for line in printed} == {b"Here is the message: "}


def test_a_peer_cannot_write_to_the_operators_terminal(tmp_path: Path) -> None:
    with Service("sock-ack", "--port=0", cwd=tmp_path) as ack:
        with ack.connect() as client:
            client.sendall(b"\x1b[2J\xff\xc2\x9b\r\nHere is the message: forged\\\0")
            read_all(client)
        ack.out.wait_for("forged")
        assert ack.out.bytes == (
            rb"Here is the message: \x1b[2J\xff\u009b\r\nHere is the message: forged\\\x00" + b"\n"
        )


@pytest.mark.parametrize("options", [(), ("--stock-transports",)])
def test_a_greeting_arrives_whole_whatever_the_peer_sends(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    message = "x" * 100_000
    with Service("sock-hello", "--port=0", "--message", message, *options, cwd=tmp_path) as hello:
        for _ in range(20):
            # What the peer sends is there, unread, when the service closes.
            hello.process.send_signal(signal.SIGSTOP)
            with hello.connect() as client:
                client.sendall(b"hello\n")
                client.shutdown(socket.SHUT_WR)
                hello.process.send_signal(signal.SIGCONT)
                assert read_all(client) == message.encode()


def test_a_greeting_arrives_whole_also_at_a_stop(tmp_path: Path) -> None:
    with Service("sock-hello", "--port=0", "--message", "x" * 100_000, cwd=tmp_path) as hello:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", hello.port))
            client.sendall(b"hello")
            assert client.recv(1) == b"x"
            hello.process.send_signal(signal.SIGTERM)
            assert len(read_all(client)) == 99_999
        assert hello.process.wait(PATIENCE) == 0
