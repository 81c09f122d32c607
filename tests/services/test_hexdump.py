from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from twisted.internet import reactor as _reactor
from twisted.internet.address import IPv4Address
from twisted.internet.task import deferLater
from twisted.internet.testing import StringTransport

from sockservices.host.host import SocketService
from sockservices.printable import peer_of_datagram
from sockservices.service import ITruncationReceiver
from sockservices.services import hexdump
from sockservices.services.hexdump import (
    HexdumpFactory,
    canonical,
    json_line,
    plain,
)
from sockservices.testing import DatagramServiceContract, StreamServiceContract
from sockservices.testing.in_process import LOOPBACK
from tests.fakes import (
    Source,
    close_output,
    connected,
    output_to,
    pipe_at,
    read_pipe,
    until,
    with_reactor,
)

reactor: Any = _reactor

# Rows that repeat, so that the squeezing has something to squeeze.
ROWS = st.lists(st.sampled_from([b"\0" * 16, b"A" * 16, bytes(range(16))]), max_size=8)
DATA = st.binary() | st.builds(lambda rows, rest: b"".join(rows) + rest, ROWS, st.binary())


def _whole(data: bytes) -> tuple[bytes, int, bool, str]:
    return data, len(data), False, "somebody"


def _plain(data: bytes) -> str:
    return plain(*_whole(data))


def _from_canonical(dump: str) -> bytes:
    """Read ``hexdump -C`` lines back, ``*`` as repetitions of the line before."""
    data, row, squeezed = b"", b"", False
    for line in dump.splitlines():
        if line == "*":
            squeezed = True
            continue
        offset = int(line[:8], 16)
        while squeezed and len(data) < offset:
            data += row
        squeezed = False
        assert len(data) == offset
        row = bytes.fromhex(line[8:58])
        data += row
    return data


@given(DATA)
def test_a_plain_dump_decodes_to_what_came(data: bytes) -> None:
    dump = plain(*_whole(data))
    assert dump.endswith("\n")
    assert "\n" not in dump[:-1]
    assert bytes.fromhex(dump) == data
    assert dump[:-1] == "".join(f"{byte:02x} " for byte in data)


@given(DATA)
@example(b"")
@example(b"A" * 48)
@example(b"A" * 40)
def test_a_canonical_dump_decodes_to_what_came(data: bytes) -> None:
    dump = canonical(*_whole(data))
    assert _from_canonical(dump) == data
    assert dump.splitlines()[-1] == f"{len(data):08x}"
    assert dump.isascii()


def test_a_canonical_dump_has_offsets_two_groups_and_ascii() -> None:
    assert canonical(*_whole(b"Hello, world!\n\x7f~ok")) == (
        "00000000  48 65 6c 6c 6f 2c 20 77  6f 72 6c 64 21 0a 7f 7e  |Hello, world!..~|\n"
        "00000010  6f 6b                                             |ok|\n"
        "00000012\n"
    )


def test_only_whole_rows_like_the_one_before_are_squeezed() -> None:
    dump = canonical(*_whole(b"A" * 16 * 4 + b"B" * 16 + b"A" * 24)).splitlines()
    assert [line[:8] for line in dump] == [
        *("00000000", "*", "00000040", "00000050", "00000060", "00000068")
    ]


@given(DATA, st.text(), st.booleans())
def test_a_json_line_decodes_to_what_came(data: bytes, peer: str, truncated: bool) -> None:
    size = len(data) + 10 * truncated
    line = json_line(data, size, truncated, peer)
    assert line.endswith("\n")
    assert line[:-1].isascii()
    assert line[:-1].isprintable()
    found = json.loads(line)
    assert list(found) == ["time", "peer", "size", "hex", "truncated"]
    assert bytes.fromhex(found["hex"]) == data
    assert (found["size"], found["truncated"]) == (size, truncated)
    assert found["peer"] == peer_of_datagram(peer)


def test_the_time_of_a_json_line_is_now_and_says_its_zone() -> None:
    before = datetime.now(UTC)
    found = datetime.fromisoformat(json.loads(json_line(*_whole(b"")))["time"])
    assert found.utcoffset() == timedelta(0)
    assert before.replace(microsecond=0) <= found <= datetime.now(UTC)


def test_what_was_cut_is_marked() -> None:
    cut = b"AB", 9, True, "somebody"
    assert plain(*cut) == "41 42 [truncated: 2 of 9 bytes]\n"
    assert canonical(*cut).splitlines()[-2:] == ["00000002", "[truncated: 2 of 9 bytes]"]
    assert json.loads(json_line(*cut))["truncated"] is True


def test_what_was_cut_to_nothing_is_marked() -> None:
    assert plain(b"", 9, True, "somebody") == "[truncated: 0 of 9 bytes]\n"


@contextmanager
def _dumping(path: Path, **options: object) -> Iterator[HexdumpFactory]:
    factory = HexdumpFactory(output=str(path), **options)  # type: ignore[arg-type]
    try:
        yield factory
    finally:
        close_output(factory._output)


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What stops the process, but for the process."""
    calls: list[str] = []
    monkeypatch.setattr(hexdump, "stop_process", lambda: calls.append("stop"))
    return calls


def test_each_read_of_a_stream_is_a_record_with_its_peer(tmp_path: Path) -> None:
    with _dumping(tmp_path / "dump", format="json") as factory:
        protocol = connected(
            factory.buildProtocol(None),
            StringTransport(peerAddress=IPv4Address("TCP", "127.0.0.1", 40000)),
        )
        protocol.dataReceived(b"one")
        protocol.dataReceived(b"two")
    found = [json.loads(line) for line in (tmp_path / "dump").read_text().splitlines()]
    assert [bytes.fromhex(each["hex"]) for each in found] == [b"one", b"two"]
    assert {each["peer"] for each in found} == {"127.0.0.1, port 40000"}
    assert [(each["size"], each["truncated"]) for each in found] == [(3, False)] * 2


def test_each_datagram_is_a_record(tmp_path: Path) -> None:
    with _dumping(tmp_path / "dump", format="json", max_size=4) as factory:
        protocol = connected(factory.build_datagram_protocol(), Source())
        protocol.datagramReceived(b"", None)
        protocol.datagramReceived(b"", "/run/y")
        protocol.datagram_truncated(b"1234", 9, "/run/x")
    assert ITruncationReceiver.providedBy(protocol)
    assert protocol.max_datagram_size == 4
    found = [json.loads(line) for line in (tmp_path / "dump").read_text().splitlines()]
    assert [(each["hex"], each["size"], each["truncated"]) for each in found] == [
        ("", 0, False),
        ("", 0, False),
        ("31323334", 9, True),
    ]
    assert [each["peer"] for each in found] == ["an unnamed Unix socket", "/run/y", "/run/x"]


@pytest.mark.parametrize("count", [1, 3])
def test_count_is_exact_pauses_the_source_and_stops_once(
    tmp_path: Path, stopped: list[str], count: int
) -> None:
    source = Source()
    with _dumping(tmp_path / "dump", count=count) as factory:
        for number in range(count - 1):
            factory.dump([_plain(bytes([number]))], source)
        assert (source.told, stopped) == ([], [])
        factory.dump([_plain(bytes([count - 1]))], source)
        assert (source.told, stopped) == (["pause"], ["stop"])
        late = Source()
        factory.dump([_plain(b"late")], late)
        assert late.told == ["pause"]
    assert (tmp_path / "dump").read_text() == "".join(f"{number:02x} \n" for number in range(count))
    assert stopped == ["stop"]


def test_count_is_exact_in_a_batch(tmp_path: Path, stopped: list[str]) -> None:
    source = Source()
    with _dumping(tmp_path / "dump", count=3) as factory:
        factory.dump([_plain(b"1")], source)
        factory.dump([_plain(b"2"), _plain(b"3"), _plain(b"4")], source)
    assert (tmp_path / "dump").read_text() == "31 \n32 \n33 \n"
    assert (source.told, stopped) == (["pause"], ["stop"])


def test_streams_and_datagrams_have_one_count(tmp_path: Path, stopped: list[str]) -> None:
    with _dumping(tmp_path / "dump", count=2) as factory:
        stream, datagrams = factory.buildProtocol(None), factory.build_datagram_protocol()
        transport, port = StringTransport(), Source()
        connected(stream, transport)
        connected(datagrams, port)
        stream.dataReceived(b"1")
        datagrams.datagramReceived(b"2", None)
        stream.dataReceived(b"3")
    assert (tmp_path / "dump").read_text() == "31 \n32 \n"
    assert stopped == ["stop"]
    assert transport.producerState == "paused"
    assert port.told == ["pause"]


def test_without_a_count_it_goes_on(tmp_path: Path, stopped: list[str]) -> None:
    source = Source()
    with _dumping(tmp_path / "dump") as factory:
        for _ in range(100):
            factory.dump([_plain(b"!")], source)
    assert (tmp_path / "dump").read_text() == "21 \n" * 100
    assert (source.told, stopped) == ([], [])


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"format": "xml"}, "'xml' is not one of plain, canonical, json"),
        ({"count": "0"}, "0 is not a whole number, 1 or more"),
        ({"max_size": 1 << 25}, f"{1 << 25} is not a whole number from 1 to {1 << 24}"),
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, object], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        HexdumpFactory(**options)  # type: ignore[arg-type]


def test_an_output_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        HexdumpFactory(output=str(tmp_path / "missing" / "dump"))


def test_a_dump_that_nobody_reads_pauses_its_source(tmp_path: Path) -> None:
    factory = HexdumpFactory()
    with pipe_at(tmp_path / "pipe"), output_to(tmp_path / "pipe", print) as output:
        factory._output = output
        full = Source()
        while not full.told:
            output.write(b"." * 4096, full)
        protocol = connected(factory.build_datagram_protocol(), source := Source())
        protocol.datagramReceived(b"whole", None)
        assert source.told == ["pause"]
        protocol.datagram_truncated(b"cut", 9, None)
        assert source.told == ["pause"] * 2


@pytest.mark.parametrize("connects", ["before", "meanwhile"])
@with_reactor
async def test_many_connections_wait_in_the_kernel_while_nobody_reads_the_dump(
    tmp_path: Path, connects: str
) -> None:
    number, data = 50, b"\1" * 65536
    with pipe_at(tmp_path / "pipe") as reading:
        with _dumping(tmp_path / "pipe") as factory:
            service = SocketService(factory, [LOOPBACK])
            service.startService()
            [address] = await service.when_listening()
            clients = [socket.create_connection(("127.0.0.1", address.port)) for _ in range(number)]
            if connects == "before":
                await until(lambda: service.ledger.live == number)
            for each in clients:
                each.setblocking(False)
                assert each.send(data) == len(data)  # the kernel takes it
                each.close()
            output = factory._output
            await until(lambda: output._is_full)
            for _ in range(3 * number):
                await deferLater(reactor, 0)
            assert output._waiting < 1 << 21
            received = b""
            while received.count(b"01 ") < number * len(data):
                received += read_pipe(reading)
                await deferLater(reactor, 0)
            await until(lambda: service.ledger.totals.closed["closed"] == number)
            assert not output._sources
            await service.stopService()


class TestHexdump(StreamServiceContract):
    factory = HexdumpFactory


class TestDatagramHexdump(DatagramServiceContract):
    factory = HexdumpFactory
