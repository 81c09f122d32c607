from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.protocol import Factory, Protocol

from sockservices import EchoFactory, HelloFactory, ListenError
from sockservices.testing import connect, serving
from tests.fakes import with_reactor


@with_reactor
async def test_a_factory_is_served_and_talked_to(serve: Any, client: Any) -> None:
    service = await serve(EchoFactory())
    peer = await client(service)
    peer.send(b"hello")
    assert await peer.receive(3) == b"hel"
    assert await peer.receive(2) == b"lo"
    peer.send(b"bye")
    peer.end_input()
    assert await peer.receive_all() == b"bye"


@with_reactor
async def test_several_listeners_of_one_service(serve: Any, client: Any, tmp_path: Path) -> None:
    service = await serve(HelloFactory(), ["tcp:0", f"unix:{tmp_path}/s", "tcp6:0"])
    for number in range(3):
        peer = await client(service, number)
        assert await peer.receive_all() == b"Hello, world!\n"


class Stubborn(Protocol):
    """Never ends by itself."""


@with_reactor
async def test_it_ends_clean_whatever_the_test_did(serve: Any, client: Any) -> None:
    factory = Factory.forProtocol(Stubborn)
    factory.noisy = False
    service = await serve(factory)
    await client(service)
    await client(service)
    assert service.ledger.live <= 2


@with_reactor
async def test_without_fixtures() -> None:
    async with serving(HelloFactory(message="hi")) as service:
        where = service.addresses[0]
        assert service.running
    assert not service.running
    with socket.socket() as late, pytest.raises(ConnectionRefusedError):
        late.connect((where.host, where.port))


@with_reactor
async def test_one_that_cannot_listen_ends_its_test_and_not_the_session(serve: Any) -> None:
    service = await serve(EchoFactory())
    with pytest.raises(ListenError):
        await serve(EchoFactory(), [f"tcp:{service.addresses[0].port}:interface=127.0.0.1"])
    await (await connect(service)).close()  # the reactor turns


@with_reactor
async def test_a_client_is_for_streams(serve: Any) -> None:
    service = await serve(EchoFactory(), ["udp:0:interface=127.0.0.1"])
    with pytest.raises(ValueError, match=r"^udp:127.0.0.1:\d+ is for datagrams"):
        await connect(service)


def test_a_command_as_an_operator_runs_it(twistd: Any) -> None:
    echo = twistd("sock-echo", "--port", "0", "--listen", "udp:0", "--report")
    assert len(echo.ports) == 2
    with echo.connect() as peer:
        peer.sendall(b"x")
        assert peer.recv(1) == b"x"
    assert echo.stop() == 0
    assert b"Received 1 bytes" in echo.output
    assert "Server Shut Down" in echo.log


@pytest.mark.parametrize("listen", [r"tcp6:0:interface=\:\:1", "unix:s"])
def test_it_connects_to_listeners_of_all_kinds(twistd: Any, tmp_path: Path, listen: str) -> None:
    listen = listen.replace(":s", f":{tmp_path}/s") if listen == "unix:s" else listen
    with twistd("sock-hello", "--listen", listen).connect() as peer:
        assert peer.recv(100) == b"Hello, world!\n"


@pytest.mark.parametrize("listen", ["udp:0", "unixgram:{}/d"])
def test_and_to_datagram_listeners(twistd: Any, tmp_path: Path, listen: str) -> None:
    running = twistd("sock-hexdump", "--listen", listen.format(tmp_path))
    with running.connect() as peer:
        peer.send(b"one")
        peer.send(b"two")
    while running.output.count(b"\n") < 2:
        pass
    assert running.output == b"6f 6e 65 \n74 77 6f \n"


def test_one_that_cannot_listen_says_why(twistd: Any) -> None:
    with pytest.raises(RuntimeError, match=r"--port: 'x' is not a whole number"):
        twistd("sock-echo", "--port", "x")


def test_pytest_loads_nothing_heavy_for_the_fixtures(tmp_path: Path) -> None:
    (tmp_path / "test_nothing.py").write_text(
        "import sys\n"
        "def test_it(request):\n"
        "    assert request.config.pluginmanager.has_plugin('sockservices')\n"
        "    heavy = {'twisted.internet.reactor', 'sockservices.host.host', 'hypothesis'}\n"
        "    assert not heavy & set(sys.modules)\n"
    )
    options = ("-p", "no:twisted", "-p", "no:hypothesispytest", "-p", "no:cacheprovider")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
