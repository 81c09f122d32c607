from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from sockservices import EchoFactory, HelloFactory, Limits, ListenError
from sockservices.testing import connect, serving
from sockservices.testing.in_process import LOOPBACK
from tests.fakes import with_reactor


@with_reactor
async def test_without_fixtures() -> None:
    async with serving(HelloFactory(message="hi")) as service:
        where = service.addresses[0]
        assert service.running
    assert not service.running
    with socket.socket() as late, pytest.raises(ConnectionRefusedError):
        late.connect((where.host, where.port))


@with_reactor
async def test_a_client_is_for_streams(serve: Any) -> None:
    service = await serve(EchoFactory(), ["udp:0:interface=127.0.0.1"])
    with pytest.raises(ValueError, match=r"^udp:127.0.0.1:\d+ receives datagrams"):
        await connect(service)


@with_reactor
async def test_a_client_waits_for_so_many_bytes_or_the_end() -> None:
    async with serving(EchoFactory()) as service:
        peer = await connect(service)
        peer.send(b"hello")
        assert await peer.receive(2) == b"he"
        assert await peer.receive(0) == b""
        peer.end_input()
        assert await peer.receive(100) == b"llo"
        assert await peer.receive(100) == b""
        await peer.close()  # over already


@with_reactor
async def test_a_client_closes_once_and_it_is_over_then() -> None:
    async with serving(EchoFactory()) as service:
        peer = await connect(service)
        waiting = Deferred.fromCoroutine(peer.receive_all())
        both = [Deferred.fromCoroutine(peer.close()) for _ in range(2)]
        for each in both:
            await each
        assert await waiting == b""


@with_reactor
async def test_a_client_is_of_the_listener_that_is_named(tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with serving(HelloFactory(), ["tcp:0", f"unix:{path}"]) as service:
        for number, kind in ((0, "IPv4Address"), (1, "UNIXAddress")):
            peer = await connect(service, number)
            assert type(peer.transport.getPeer()).__name__ == kind
            assert await peer.receive_all() == b"Hello, world!\n"


@with_reactor
async def test_parts_and_arguments_are_those_of_the_service() -> None:
    async with serving(EchoFactory(), [LOOPBACK], Limits(max_connections=1), name="it") as service:
        assert service.name == "it"
        assert service.settings[Limits] == Limits(max_connections=1)
        assert service.descriptions[0].startswith("tcp:127.0.0.1:")


@with_reactor
async def test_who_serves_is_told_that_it_cannot_listen() -> None:
    async with serving(EchoFactory()) as service:
        taken = service.addresses[0].port
        with pytest.raises(ListenError, match=str(taken)):
            async with serving(EchoFactory(), [f"tcp:{taken}:interface=127.0.0.1"]):
                raise AssertionError("it listens")


@with_reactor
async def test_what_fails_meanwhile_ends_the_service_and_is_raised() -> None:
    with pytest.raises(RuntimeError, match="of the test"):
        async with serving(EchoFactory()) as service:
            raise RuntimeError("of the test")
    assert not service.running
