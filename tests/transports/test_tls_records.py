"""Records: where they end, and what is in them, by the public methods of pyOpenSSL and without."""

from __future__ import annotations

import random
from contextlib import suppress
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificate
from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL
from twisted.internet import ssl

from sockservices.transports import tls_records
from sockservices.transports.tls_records import Boundaries, DirectRecords, PublicRecords
from tests.certificates import pem_of


def _record(size: int, kind: int = 23) -> bytes:
    return bytes([kind, 3, 3]) + size.to_bytes(2, "big") + bytes(size)


@given(
    sizes=st.lists(st.one_of(st.integers(0, 50), st.integers(0, 16640)), max_size=8),
    cuts=st.lists(st.integers(0, 1 << 18), max_size=8),
)
def test_records_are_followed_wherever_they_are_cut(sizes: list[int], cuts: list[int]) -> None:
    data = b"".join(_record(size) for size in sizes)
    ends = [sum(5 + size for size in sizes[: number + 1]) for number in range(len(sizes))]
    boundaries, done, at = Boundaries(), 0, 0
    for place in [*sorted(min(cut, len(data)) for cut in cuts), len(data)]:
        complete = boundaries.follow(data[at:place])
        assert complete is not None
        done, at = done + complete, place
        assert done == sum(end <= place for end in ends)
        assert bool(boundaries.missing) == (place not in [0, *ends])
    assert not boundaries.is_lost


def test_other_records_are_told_from_application_data() -> None:
    boundaries = Boundaries()
    assert boundaries.follow(_record(3) + _record(2, kind=21)) is None
    assert boundaries.follow(_record(3)) == 1
    assert not boundaries.is_lost


@pytest.mark.parametrize(
    "header",
    [b"GET /", b"\x17\x03\x03\x41\x01", b"\x18\x03\x03\x00\x01", b"\x17\x02\x03\x00\x01"],
    ids=["text", "too long", "unknown type", "unknown version"],
)
def test_what_is_no_record_is_noticed_at_its_header(header: bytes) -> None:
    boundaries = Boundaries()
    assert boundaries.follow(_record(3) + header[:4]) == 1
    assert not boundaries.is_lost
    assert boundaries.follow(header[4:]) is None
    assert boundaries.is_lost
    assert boundaries.follow(_record(3)) is None


def _pair(version: int = SSL.TLS1_3_VERSION) -> tuple[Any, Any]:
    certificate, key = (each.encode() for each in pem_of("localhost"))
    options: Any = ssl.CertificateOptions
    own = options(
        certificate=load_pem_x509_certificate(certificate),
        privateKey=load_pem_private_key(key, None),
    )
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_max_proto_version(version)
    server, client = SSL.Connection(own.getContext()), SSL.Connection(context)
    server.set_accept_state()
    client.set_connect_state()
    for _ in range(3):
        for one, other in ((client, server), (server, client)):
            with suppress(SSL.WantReadError):
                one.do_handshake()
            _carry(one, other)
    with pytest.raises(SSL.WantReadError):  # nothing but session tickets
        client.recv(1)
    return server, client


def _carry(one: Any, other: Any) -> None:
    with suppress(SSL.WantReadError):
        other.bio_write(one.bio_read(1 << 20))


KINDS = pytest.mark.parametrize("kind", [PublicRecords, DirectRecords])
DATA = random.Random(3).randbytes(200_000)


@KINDS
@pytest.mark.parametrize("version", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
def test_data_is_encrypted_and_read(kind: Any, version: int) -> None:
    server, client = _pair(version)
    records = kind(server)
    for size in (1, 100, 16384, 16385, 65536, 200_000):
        for data in (DATA[:size], memoryview(DATA)[:size]):
            client.bio_write(records.encrypt(data))
            got = b""
            while len(got) < size:
                got += client.recv(1 << 20)
            assert got == DATA[:size]
            client.sendall(DATA[:size])
            sent = client.bio_read(1 << 20)
            records.put(sent[:7])
            records.put(sent[7:])
            got = b""
            for _ in range((size - 1) // 16384 + 1):
                got += records.get()
            assert got == DATA[:size]
            with pytest.raises(SSL.WantReadError):
                records.get()
            with pytest.raises(SSL.WantReadError):
                server.bio_read(1)


@KINDS
def test_what_waits_to_be_sent_goes_first(kind: Any) -> None:
    server, client = _pair()
    server.send(b"first ")
    server.sendall(DATA)  # more than there is room for
    client.bio_write(kind(server).encrypt(b" last"))
    got = b""
    while not got.endswith(b" last"):
        got += client.recv(1 << 20)
    assert got == b"first " + DATA + b" last"


@KINDS
def test_failures_are_pyopenssls(kind: Any) -> None:
    server, client = _pair()
    records = kind(server)
    with pytest.raises(SSL.WantReadError):
        records.get()
    client.send(b"x")
    spoilt = bytearray(client.bio_read(100))
    spoilt[-1] ^= 1
    records.put(bytes(spoilt))
    with pytest.raises(SSL.Error, match="bad record mac"):
        records.get()
    server, client = _pair()
    client.shutdown()
    _carry(client, server)
    with pytest.raises(SSL.ZeroReturnError):
        kind(server).get()
    server.shutdown()
    with pytest.raises(SSL.Error, match="protocol is shutdown"):
        kind(server).encrypt(b"x")


def test_this_pyopenssl_has_what_the_fast_way_needs() -> None:
    assert tls_records.records_of is DirectRecords
