"""What a service does itself when it starts, reloads and ends, under a real ``twistd``."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import pytest

from tests.system.processes import PATIENCE, TWISTD, Running, Service, read_all, run

_SERVICES = """
import os
from twisted.enterprise.adbapi import ConnectionPool
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.protocols.basic import LineOnlyReceiver
from zope.interface import implementer
from sockservices import ILifespan

log = Logger(namespace="database")

class Asking(LineOnlyReceiver):
    delimiter = b"\\n"
    def lineReceived(self, line):
        answer = self.factory.pool.runQuery("select ?", (line.decode(),))
        answer.addCallback(lambda rows: self.sendLine(rows[0][0].encode()))
        answer.addErrback(lambda failure: self.sendLine(failure.type.__name__.encode()))
        answer.addBoth(lambda _none: self.transport.loseConnection())

class Database(Factory):
    protocol = Asking
    def startFactory(self):
        self.pool = ConnectionPool("sqlite3", ":memory:", check_same_thread=False)
    def stopFactory(self):
        self.pool.close()

@implementer(ILifespan)
class Living(Database):
    async def start(self):
        await deferLater(reactor, 0)
        log.info("start in {pid}", pid=os.getpid())
        if os.path.exists("broken"):
            raise ConnectionRefusedError("no database")
    async def reload(self):
        await deferLater(reactor, 0)
        log.info("reload")
    async def end(self):
        await deferLater(reactor, 0)
        log.info("end")

@implementer(ILifespan)
class Endless(Living):
    def end(self):
        return Deferred()
"""
_NEWLINE = "\n"
_REFUSED = (
    "twistd: services.Living: cannot start: ConnectionRefusedError: no database "
    f"(services.py:{_SERVICES[: _SERVICES.index('raise Conn')].count(_NEWLINE) + 1})\n"
)
_LISTEN = "--listen=tcp:0:interface=127.0.0.1"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "services.py").write_text(_SERVICES)
    return tmp_path


@pytest.mark.parametrize("name", ["Database", "Living"])
def test_a_query_is_answered_after_the_ports_have_closed(folder: Path, name: str) -> None:
    options = (f"--factory=services.{name}", _LISTEN, "--graceful-timeout=30")
    with Service("sock-serve", *options, cwd=folder) as service:
        with service.connect() as client:
            client.sendall(b"be")
            service.process.send_signal(signal.SIGTERM)
            service.err.wait_for("stopping: 1 connection")
            with pytest.raises(ConnectionRefusedError):
                service.connect()
            client.sendall(b"gun\n")
            assert read_all(client) == b"begun\n"
        assert service.wait() == 0


def test_it_starts_reloads_and_ends_once(folder: Path) -> None:
    with Service("sock-serve", "--factory=services.Living", _LISTEN, cwd=folder) as service:
        text = service.err.wait_for(r"start in (\d+)(?s:.*)listening on")
        assert int(text[1]) == service.process.pid
        service.process.send_signal(signal.SIGHUP)
        service.err.wait_for("reloaded: the service")
        assert service.stop() == 0
        service.err.wait_for(r"reload\n(?s:.*)stopped: 0 connections(?s:.*) end\n")


def test_one_that_cannot_start_is_one_line(folder: Path) -> None:
    (folder / "broken").touch()
    ended = run(
        *(*TWISTD[:2], "--logfile=log", "sock-serve", "--factory=services.Living", _LISTEN),
        cwd=folder,
    )
    assert ended.returncode == 1
    assert ended.stderr.decode() == _REFUSED


def test_an_author_sees_the_traceback_of_one_that_cannot_start(folder: Path) -> None:
    (folder / "broken").touch()
    options = ("--factory=services.Living", _LISTEN, "--reload")
    with Running([*TWISTD, "sock-serve", *options], cwd=folder) as supervisor:
        text = supervisor.err.wait_for(r"Traceback(?s:.*)nothing is served")[0]
        assert 'raise ConnectionRefusedError("no database")' in text
        assert text.count("Traceback") == 1
        assert _REFUSED in text
        assert supervisor.stop() == 0


def test_in_the_background_the_command_waits_for_the_start(folder: Path) -> None:
    (folder / "broken").touch()
    ended = run(
        *(TWISTD[0], "--logfile=log", "sock-serve", "--factory=services.Living", _LISTEN),
        cwd=folder,
    )
    assert (ended.returncode, ended.stderr.decode()) == (1, _REFUSED)


def test_an_end_without_an_end_is_given_up(folder: Path) -> None:
    options = ("--factory=services.Endless", _LISTEN, "--lifespan-timeout=0.5")
    with Service("sock-serve", *options, cwd=folder) as service:
        assert service.stop() == 0
        service.err.wait_for(r"the service did not end: it took longer than 0\.5 s")


def test_a_supervisor_starts_and_ends_each_process_of_its_own(folder: Path) -> None:
    options = ("--factory=services.Living", _LISTEN, "--reload")
    with Service("sock-serve", *options, cwd=folder) as service:
        service.err.wait_for("the code is loaded")
        with socket.create_connection(("127.0.0.1", service.port), PATIENCE) as client:
            client.sendall(b"hello\n")
            assert read_all(client) == b"hello\n"
        assert service.stop() == 0
        service.err.wait_for(" end\n")
