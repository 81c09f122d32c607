from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.protocol import Factory, Protocol

from sockservices import EchoFactory, HelloFactory, ListenError
from sockservices.testing import connect
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
async def test_one_that_cannot_listen_ends_its_test_and_not_the_session(serve: Any) -> None:
    service = await serve(EchoFactory())
    with pytest.raises(ListenError):
        await serve(EchoFactory(), [f"tcp:{service.addresses[0].port}:interface=127.0.0.1"])
    await (await connect(service)).close()  # the reactor turns


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
