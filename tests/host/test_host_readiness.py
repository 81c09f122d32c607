"""Whether a host is ready: it is not while it has lost a listener, or is suspended."""

from __future__ import annotations

import os
import socket
from typing import Any

from twisted.internet.protocol import DatagramProtocol

from sockservices.connections.ledger import Totals
from sockservices.host.host import SocketService
from sockservices.services.echo import EchoFactory
from sockservices.testing.in_process import LOOPBACK
from tests.fakes import until, with_reactor

_UDP = "udp:0:interface=127.0.0.1"


def _shut_down(host: SocketService, number: int) -> None:
    port = host._ports.open[number]
    with socket.socket(fileno=os.dup(port.fileno())) as same:
        same.shutdown(socket.SHUT_RDWR)


@with_reactor
async def test_it_is_ready_while_all_its_listeners_listen() -> None:
    host = SocketService(EchoFactory(), [LOOPBACK, _UDP])
    told: list[tuple[bool, list[str]]] = []
    host.watch_readiness(lambda: told.append((host.is_ready, host.lost)))
    assert not host.is_ready
    host.startService()
    before = await host.when_listening()
    assert host.is_ready
    _shut_down(host, 0)
    await until(lambda: told)
    assert host.addresses == before[1:]
    await until(lambda: len(told) == 2)
    assert told == [(False, [LOOPBACK]), (True, [])]
    assert [type(each) for each in host.addresses] == [type(each) for each in before]
    host.suspend()
    host.resume()
    assert told[2:] == [(False, []), (True, [])]
    await host.stopService()
    assert not host.is_ready


@with_reactor
async def test_a_listener_that_is_opened_again_serves_within_the_limits_and_is_suspended() -> None:
    host = SocketService(EchoFactory(), [LOOPBACK, _UDP])
    host.startService()
    await host.when_listening()
    _shut_down(host, 0)
    await until(lambda: host.lost)
    host.suspend()
    await until(lambda: not host.lost)
    reopened: Any = host._ports.open[0]
    assert not reopened._accepts
    host.resume()
    assert reopened._accepts
    assert (reopened.on_exhausted, reopened.on_error) != (None, None)
    await host.stopService()


@with_reactor
async def test_errors_that_it_survives_are_counted() -> None:
    host = SocketService(None, [_UDP], datagram=DatagramProtocol)
    host.startService()
    await host.when_listening()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as nobody:
        nobody.bind(("127.0.0.1", 0))
        where = nobody.getsockname()
    port: Any = host._ports.open[0]
    port.connect(*where)
    port.write(b"is anybody there?")
    await until(lambda: host.ledger.totals.socket_errors)
    assert host.ledger.totals == Totals(socket_errors=1, bytes_out=17)
    await host.stopService()


@with_reactor
async def test_a_service_may_close_its_listener() -> None:
    class Once(DatagramProtocol):
        transport: Any

        def datagramReceived(self, datagram: bytes, addr: Any) -> None:
            self.transport.stopListening()

    failures: list[str] = []
    host = SocketService(None, [_UDP], datagram=Once, on_failure=failures.append)
    host.startService()
    [address] = await host.when_listening()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.sendto(b"enough", (address.host, address.port))
        await until(lambda: not host.descriptions)
    assert (host.addresses, host.lost, failures) == ([], [], [])
    assert host.ledger.totals.datagrams == 1
    await host.stopService()
