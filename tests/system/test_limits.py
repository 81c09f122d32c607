"""Limits of a real service: how many, how fast, whom, and for how long."""

from __future__ import annotations

import contextlib
import re
import resource
import select
import signal
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from tests.certificates import make_certificate
from tests.system.processes import (
    BIN,
    PATIENCE,
    Running,
    Service,
    as_root,
    needs,
    read_all,
    run,
    serve,
)

LISTEN = "--listen=tcp:0:interface=127.0.0.1"

SERVICES = """
from twisted.internet.protocol import Protocol

class Counting(Protocol):
    # Tells how many there are, and stays until it hears a byte.
    live = 0

    def connectionMade(self):
        Counting.live += 1
        self.transport.write(b"%d\\n" % Counting.live)

    def dataReceived(self, data):
        self.transport.loseConnection()

    def connectionLost(self, reason):
        Counting.live -= 1

class Filling(Protocol):
    def connectionMade(self):
        self.transport.write(b"x" * (20 << 20))
"""


def _is_cut(client: socket.socket) -> bool:
    """Wait for the end that is no order."""
    client.settimeout(PATIENCE)
    try:
        while client.recv(1 << 16):
            pass
    except ConnectionResetError:
        return True
    return False


@pytest.mark.parametrize("options", [[], ["--stock-transports"]], ids=["eager", "stock"])
def test_500_clients_wait_for_100_places(tmp_path: Path, options: list[str]) -> None:
    seen: list[int] = []

    def visit(port: int) -> None:
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
            seen.append(int(client.makefile().readline()))
            client.sendall(b".")
            assert read_all(client) == b""

    with serve(
        tmp_path, SERVICES, "Counting", "--max-connections=100", "--at-limit=wait", *options
    ) as service:
        # Fill it first, so that the others do wait.
        first = [service.connect() for _ in range(100)]
        numbers = [int(client.makefile().readline()) for client in first]
        assert sorted(numbers) == list(range(1, 101))
        visitors = [threading.Thread(target=visit, args=(service.port,)) for _ in range(400)]
        for each in visitors:
            each.start()
        for client in first:
            client.sendall(b".")
            assert read_all(client) == b""
            client.close()
        for each in visitors:
            each.join()
    assert len(seen) == 400
    assert max(seen) <= 100


def test_at_the_limit_a_newcomer_is_refused(tmp_path: Path) -> None:
    with serve(tmp_path, SERVICES, "Counting", "--max-connections=2") as service:
        clients = [service.connect() for _ in range(2)]
        for client in clients:
            assert client.makefile().readline()
        with service.connect() as newcomer:
            assert read_all(newcomer) == b""
        clients[0].sendall(b".")
        assert read_all(clients[0]) == b""
        with service.connect() as newcomer:
            assert newcomer.makefile().readline() == "2\n"
        for client in clients:
            client.close()


def test_limits_of_a_source_are_exact_under_concurrency(tmp_path: Path) -> None:
    results: list[bool] = []

    def knock(port: int) -> None:
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
            results.append(bool(client.recv(10)))
            done.wait(PATIENCE)

    done = threading.Event()
    with serve(tmp_path, SERVICES, "Counting", "--max-per-source=7", "--rate=1000/3600") as service:
        knocking = [threading.Thread(target=knock, args=(service.port,)) for _ in range(60)]
        for each in knocking:
            each.start()
        while len(results) < 60:
            done.wait(0.01)
        done.set()
        for each in knocking:
            each.join()
    assert results.count(True) == 7


def test_a_rate_is_exact(tmp_path: Path) -> None:
    with serve(tmp_path, SERVICES, "Counting", "--rate=5/3600") as service:
        heard = []
        for _ in range(20):
            with service.connect() as client:
                heard.append(bool(_first(client)))
        assert heard == [True] * 5 + [False] * 15


def _first(client: socket.socket) -> bytes:
    client.settimeout(PATIENCE)
    return client.recv(10)


@pytest.mark.parametrize("options", [[], ["--stock-transports"]], ids=["eager", "stock"])
def test_a_peer_that_does_not_read_is_cut_when_too_much_waits(
    tmp_path: Path, options: list[str]
) -> None:
    with serve(tmp_path, SERVICES, "Filling", "--max-write-buffer=1000000", *options) as service:
        with service.connect() as client:
            poller = select.poll()
            poller.register(client, 0)  # only errors
            assert poller.poll(PATIENCE * 1000)
    # What the kernel takes does not wait.
    with Service(
        *("sock-hello", f"--message={'x' * 100_000}", LISTEN, "--listen=unix:s"),
        *("--max-write-buffer=10", *options),
        cwd=tmp_path,
    ) as hello:
        unix = socket.socket(socket.AF_UNIX)
        unix.connect(str(tmp_path / "s"))
        for client in (hello.connect(), unix):
            with client:
                assert len(read_all(client)) == 100_000


def test_networks_are_read_again_at_sighup_and_hold_for_the_living(tmp_path: Path) -> None:
    denied = tmp_path / "denied"
    denied.write_text("# nobody yet\n")
    with Service("sock-echo", LISTEN, f"--deny-file={denied}", cwd=tmp_path) as echo:
        with echo.connect() as client:
            client.sendall(b"x")
            assert client.recv(1) == b"x"
            denied.write_text("nonsense\n")
            echo.process.send_signal(signal.SIGHUP)
            echo.err.wait_for("not reloaded: .*denied, line 1: 'nonsense' is not a network")
            client.sendall(b"x")
            assert client.recv(1) == b"x"
            denied.write_text("127.0.0.0/8\n")
            echo.process.send_signal(signal.SIGHUP)
            assert _is_cut(client)
        with echo.connect() as client:
            assert read_all(client) == b""
        assert echo.stop() == 0


def test_a_suspended_service_keeps_what_lives_and_lets_the_others_wait(tmp_path: Path) -> None:
    with Service("sock-echo", LISTEN, cwd=tmp_path) as echo:
        with echo.connect() as living:
            living.sendall(b"1")
            assert living.recv(1) == b"1"
            echo.process.send_signal(signal.SIGUSR2)
            echo.err.wait_for("suspended: 1 live connections")
            with echo.connect() as waiting:
                waiting.sendall(b"3")
                living.sendall(b"2")
                assert living.recv(1) == b"2"
                echo.process.send_signal(signal.SIGUSR2)
                echo.err.wait_for("resumed")
                waiting.settimeout(PATIENCE)
                assert waiting.recv(1) == b"3"


@pytest.mark.parametrize("options", [[], ["--stock-transports"]], ids=["eager", "stock"])
def test_who_is_turned_away_is_told_and_counted(tmp_path: Path, options: list[str]) -> None:
    """Each with peer and reason, a flood as a few lines and a number, the totals at the end."""
    limits = ("--max-per-source=1", "--idle-timeout=0.5", "--rate=1/3600", *options)
    listen = (LISTEN, "--listen=udp:0:interface=127.0.0.1")
    with Service("sock-echo", *listen, *limits, cwd=tmp_path) as echo:
        with echo.connect() as idle:
            host, port = idle.getsockname()
            for _ in range(20):
                with echo.connect() as refused:
                    refused.settimeout(PATIENCE)
                    assert refused.recv(1) == b""
            echo.err.wait_for("refused 127.0.0.1, port [0-9]+ on tcp:.*: max-per-source: the limit")
            idle.settimeout(PATIENCE)
            assert read_all(idle) == b""
        echo.err.wait_for(f"closed {host}, port {port} on tcp:.*: idle-timeout: the peer neither")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(PATIENCE)
            client.connect(("127.0.0.1", int(echo.where[1].rpartition(":")[2])))
            client.send(b"1")
            assert client.recv(1) == b"1"
            client.send(b"2")
        echo.err.wait_for("refused 127.0.0.1, port [0-9]+ on udp:.*: rate: the limit of --rate")
        echo.process.send_signal(signal.SIGUSR1)
        counts = "max-per-source 20, rate 1"
        totals = f"connections 1; ended: idle-timeout 1; datagrams 1; refused: {counts}"
        echo.err.wait_for(f"since the start: {totals}\n")
        assert echo.stop() == 0
        lines = echo.err.whole().splitlines()
        more = [int(found[1]) for each in lines if (found := _MORE.search(each))]
        told = [each for each in lines if ": max-per-source: the limit" in each]
        assert len(told) + sum(more) == 20
        assert len(told) == 3 or len(more) > 1  # of each second
        last = [each for each in lines if "#info]" in each and "[sock-echo" in each][-1]
        assert last.endswith(f"since the start: {totals}")


_MORE = re.compile("max-per-source: ([0-9]+) more in 1 s")


def test_a_suspended_service_lets_datagrams_wait(tmp_path: Path) -> None:
    with Service("sock-echo", "--listen=udp:0:interface=127.0.0.1", cwd=tmp_path) as echo:
        with echo.connect_datagrams() as client:
            echo.process.send_signal(signal.SIGUSR2)
            echo.err.wait_for("suspended: 0 live connections")
            client.send(b"1")
            assert _waits_to_be_read(echo.port)
            echo.process.send_signal(signal.SIGUSR2)
            assert client.recv(1) == b"1"


def test_how_much_of_an_ipv6_address_is_a_source(tmp_path: Path) -> None:
    options = ("--max-per-source=1", "--ipv6-prefix=128")
    with Service("sock-echo", r"--listen=tcp6:0:interface=\:\:1", *options, cwd=tmp_path) as echo:
        with socket.create_connection(("::1", echo.port), PATIENCE) as first:
            first.sendall(b"x")
            assert first.recv(1) == b"x"
            with socket.create_connection(("::1", echo.port), PATIENCE) as second:
                assert second.recv(1) == b""


@pytest.mark.parametrize(
    ("options", "answered", "reason"),
    [
        (["--rate=50/600"], 50, "rate"),
        (["--rate-per-source=5/600"], 4 * 5, "rate-per-source"),
        (["--rate-per-source=5/600", "--exempt=127.0.0.2"], 40 + 3 * 5, "rate-per-source"),
        (["--deny=127.0.0.0/8", "--allow=127.0.0.2"], 40, "denied"),
    ],
)
def test_limits_of_datagrams_are_exact(
    tmp_path: Path, options: list[str], answered: int, reason: str
) -> None:
    with (
        Service(
            *("sock-echo", "--listen=udp:0:interface=127.0.0.1", LISTEN, *options), cwd=tmp_path
        ) as echo,
        contextlib.ExitStack() as clients,
    ):
        sockets = [
            clients.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            for _ in range(4)
        ]
        for number, client in enumerate(sockets, 2):
            client.bind((f"127.0.0.{number}", 0))
            client.setblocking(False)
        for client in sockets * 40:
            client.sendto(b"x", ("127.0.0.1", echo.port))
        _let_it_turn(int(echo.where[1].rpartition(":")[2]))
        echo.stop()
        echo.err.wait_for(f"since the start: .*refused: {reason} {160 - answered}\n")
        assert sum(_count_waiting(client) for client in sockets) == answered


def _let_it_turn(port: int) -> None:
    """Talk to a service's reactor over another listener: in each turn it reads datagrams, too."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE, ("127.0.0.2", 0)) as client:
        for _ in range(20):
            client.sendall(b"x")
            assert client.recv(1) == b"x"


def _waits_to_be_read(port: int) -> bool:
    """Look into proc(5) whether a UDP socket has something in its queue."""
    for line in Path("/proc/net/udp").read_text().splitlines()[1:]:
        local, queues = line.split()[1], line.split()[4]
        if local == f"0100007F:{port:04X}":
            return not queues.endswith(":00000000")
    raise AssertionError(port)


def _count_waiting(client: socket.socket) -> int:
    count = 0
    with contextlib.suppress(BlockingIOError):
        while client.recv(100):
            count += 1
    return count


@as_root
@pytest.mark.parametrize("options", [[], ["--stock-transports"]], ids=["eager", "stock"])
def test_unix_peers_are_known_by_their_user_and_group(tmp_path: Path, options: list[str]) -> None:
    tmp_path.chmod(0o755)
    who = ("--allow-user=daemon", "--allow-group=adm")
    with Service(
        *("sock-counter", "--socket=s", "--mode=666", *who, *options), cwd=tmp_path
    ) as counter:

        def ask(*identity: str) -> bytes:
            said = run("setpriv", *identity, "nc", "-U", "s", cwd=tmp_path)
            return said.stdout

        assert ask("--reuid=daemon", "--clear-groups") == b"Connection 1!\n"
        assert ask("--reuid=nobody", "--regid=nogroup", "--clear-groups") == b""
        assert ask("--reuid=nobody", "--regid=adm", "--clear-groups") == b"Connection 2!\n"
        assert ask("--reuid=nobody", "--regid=nogroup", "--groups=adm") == b"Connection 3!\n"
        assert ask("--reuid=root", "--clear-groups") == b""
        counter.stop()
        counter.err.wait_for("since the start: .*refused: user 2\n")


@needs("openssl")
def test_over_tls_a_newcomer_is_refused_before_the_handshake(tmp_path: Path) -> None:
    make_certificate(tmp_path)
    with Service(
        *("sock-echo", "--listen=ssl:0:privateKey=key.pem:certKey=trusted/cert.pem"),
        "--max-connections=1",
        cwd=tmp_path,
    ) as echo:
        with echo.connect() as first, echo.connect() as second:
            second.settimeout(PATIENCE)
            assert second.recv(1) == b""
            assert "Traceback" not in echo.err.text
            first.close()


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--max-connections=0", "--max-connections: 0 is not a whole number, 1 or more"),
        ("--rate=10", "--rate: '10' is not a rate, such as 100/60 for 100 in 60 seconds"),
        ("--rate=0/1", "--rate: '0/1' is not a rate"),
        ("--allow=here", "--allow: 'here' is not a network, such as 192.0.2.0/24"),
        ("--deny-file=none", "--deny-file: none: No such file or directory"),
        ("--at-limit=cry", "--at-limit: 'cry' is not one of refuse, wait"),
        ("--idle-timeout=0", "--idle-timeout: '0' is not a number of seconds, more than 0"),
        ("--graceful-timeout=-1", "--graceful-timeout: '-1' is not a number of seconds, 0 or"),
        ("--handshake-timeout=0", "--handshake-timeout: '0' is not a number of seconds, more than"),
        ("--at-limit=wait", "--at-limit goes with --max-connections"),
        ("--exempt=::1", "--exempt goes with --max-per-source or --rate-per-source"),
        ("--ipv6-prefix=48", "--ipv6-prefix goes with --max-per-source or --rate-per-source"),
        ("--flush=nan", "--flush: 'nan' is not a number of seconds, 0 or more"),
        ("--allow-user=no-such", "--allow-user: there is no user 'no-such'"),
        ("--allow-group=no-such", "--allow-group: there is no group 'no-such'"),
        ("--ipv6-prefix=129", "--ipv6-prefix: 129 is not a whole number from 1 to 128"),
        ("--proxy-protocol=v3", "--proxy-protocol: 'v3' is not one of off, v1, v2, any"),
        ("--proxy-allow-from=x", "--proxy-allow-from: 'x' is not a network"),
        ("--proxy-allow-from=::1", "--proxy-allow-from goes with --proxy-protocol"),
    ],
)
def test_a_limit_that_is_none_is_one_line(tmp_path: Path, option: str, said: str) -> None:
    done = run(BIN / "twistd", "-n", "sock-echo", LISTEN, option, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.decode().startswith(f"twistd: sock-echo: {said}")
    assert done.stderr.count(b"\n") == 1


@needs("strace")
@pytest.mark.parametrize("reactor", ["epoll", "eager"])
def test_at_the_descriptor_limit_it_serves_those_it_has_and_does_not_spin(
    tmp_path: Path, reactor: str
) -> None:
    twistd = f"{BIN}/twistd -n --logger=sockservices.to_stderr --reactor={reactor}"
    with Running(
        ["sh", "-c", f"ulimit -n 100 && exec {twistd} sock-echo {LISTEN} --backlog 1000"], tmp_path
    ) as echo:
        port = int(echo.err.wait_for(r"listening on tcp:127\.0\.0\.1:(\d+)")[1])
        clients = [socket.create_connection(("127.0.0.1", port), PATIENCE) for _ in range(500)]
        for client in clients:
            client.sendall(b"x")
            client.settimeout(PATIENCE)
        said = echo.err.wait_for(
            r"new connections wait: Too many open files, with (\d+) live connections"
        )
        served, waiting = clients[: int(said[1])], clients[int(said[1]) :]
        assert 50 < len(served) < 100
        for client in served:
            assert client.recv(1) == b"x"
        for _ in range(3):
            for client in served:
                client.sendall(b"y")
                assert client.recv(1) == b"y"
        assert select.select(waiting, [], [], 0)[0] == []
        calls = _system_calls(echo.process.pid)
        assert calls < 100  # in a second: one attempt in half of one, and what belongs to it
        for client in served:
            client.close()
        for client in waiting:  # as descriptors come free, these come in
            assert client.recv(1) == b"x"
            client.close()
        assert echo.err.text.count("new connections wait") == 1
        assert "Traceback" not in echo.err.text
        assert echo.stop() == 0


def test_with_select_connections_beyond_its_descriptors_wait(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, before[1]))
    try:
        with (
            Service(
                "--reactor=select", "sock-echo", LISTEN, "--backlog=1000", cwd=tmp_path
            ) as echo,
            contextlib.ExitStack() as closing,
        ):
            clients = [closing.enter_context(echo.connect()) for _ in range(1200)]
            for client in clients:
                client.sendall(b"x")
            said = echo.err.wait_for(r"new connections wait: .* with (\d+) live connections")
            served, waiting = clients[: int(said[1])], clients[int(said[1]) :]
            assert 900 < len(served) < 1024
            for client in served:
                assert client.recv(1) == b"x"
                client.close()
            for client in waiting:
                assert client.recv(1) == b"x"
            assert echo.stop() == 0
            assert "bad descriptor" not in echo.err.text
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def _system_calls(pid: int) -> int:
    """Count the system calls of a second."""
    done = subprocess.run(
        ["timeout", "-s", "INT", "1", "strace", "-f", "-c", "-p", str(pid)],
        capture_output=True,
        text=True,
        check=False,
    )
    return sum(int(line.split()[3]) for line in done.stderr.splitlines() if _is_row(line))


def _is_row(line: str) -> bool:
    fields = line.split()
    return len(fields) >= 5 and fields[-1] != "total" and fields[3].isdigit()
