from __future__ import annotations

import ipaddress
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress

from sockservices.connections.proxy_protocol import Header, HeaderError, Version, read_header

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_V4 = Header(IPv4Address("TCP", "192.0.2.1", 56324), IPv4Address("TCP", "192.0.2.2", 443))
_V6 = Header(IPv6Address("TCP", "2001:db8::1", 1), IPv6Address("TCP", "2001:db8::2", 65535))


def _v2(command: int, kind: int, body: bytes) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, kind, len(body)) + body


def _packed(host: str) -> bytes:
    return ipaddress.ip_address(host).packed


_V4_BODY = _packed("192.0.2.1") + _packed("192.0.2.2") + struct.pack("!HH", 56324, 443)
_V6_BODY = _packed("2001:db8::1") + _packed("2001:db8::2") + struct.pack("!HH", 1, 65535)
_TLVS = b"\xe9\x00\x03abc" + b"\x04\x00\x00" + b"\xf0\xff\xff broken"

_HEADERS = [
    (b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n", _V4),
    (b"PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n", _V6),
    (b"PROXY UNKNOWN\r\n", Header()),
    (b"PROXY UNKNOWN ffff::1 whatever \xff 1 2\r\n", Header()),
    (_v2(0x21, 0x11, _V4_BODY), _V4),
    (_v2(0x21, 0x11, _V4_BODY + _TLVS), _V4),
    (_v2(0x21, 0x12, _V4_BODY), _V4),
    (_v2(0x21, 0x21, _V6_BODY), _V6),
    (_v2(0x21, 0x21, _V6_BODY + _TLVS), _V6),
    (
        _v2(0x21, 0x31, b"/run/a".ljust(108, b"\0") + b"\0name".ljust(108, b"\0")),
        Header(UNIXAddress(b"/run/a"), UNIXAddress(b"\0name")),
    ),
    (_v2(0x21, 0x31, bytes(216)), Header(UNIXAddress(None), UNIXAddress(None))),
    (_v2(0x20, 0x00, b""), Header()),
    (_v2(0x20, 0x11, _V4_BODY), Header()),
    (_v2(0x20, 0x00, _TLVS), Header()),
    (_v2(0x20, 0xFF, b"whatever"), Header()),
    (_v2(0x21, 0x00, b""), Header()),
    (_v2(0x21, 0x10, _V4_BODY), Header()),
    (_v2(0x21, 0x11, _V4_BODY + bytes(65535 - len(_V4_BODY))), _V4),
]


def _version(header: bytes) -> Version:
    return "v1" if header.startswith(b"PROXY") else "v2"


@pytest.mark.parametrize(("raw", "expected"), _HEADERS)
@pytest.mark.parametrize("rest", [b"", b"\r\nPROXY"])
def test_a_header_and_its_length(raw: bytes, expected: Header, rest: bytes) -> None:
    versions: tuple[Version, ...] = ("any", _version(raw))
    for version in versions:
        assert read_header(raw + rest, version) == (expected, len(raw))


@pytest.mark.parametrize(("raw", "expected"), [each for each in _HEADERS if len(each[0]) < 1000])
def test_a_part_of_one_is_not_enough_at_any_byte(raw: bytes, expected: Header) -> None:
    for end in range(len(raw)):
        assert read_header(raw[:end], "any") is None


@pytest.mark.parametrize(
    "raw",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"PROXI",
        b"\r\n\r\n\1",
        b"PROXY \r\n",
        b"PROXY\r\n",
        b"PROXY TCP4\r\n",
        b"PROXY TCP5 192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY tcp4 192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
        b"PROXY TCP4 192.0.2.1  192.0.2.2 1 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 -1 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1_0 2\r\n",
        b"PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n",
        b"PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
        b"PROXY TCP4 \xff \xff 1 2\r\n",
        b"PROXY UNKNOWN " + b"x" * 93,
        b"PROXY TCP4 " + b"1" * 200,
        _v2(0x11, 0x11, _V4_BODY),
        _v2(0x22, 0x11, _V4_BODY),
        _v2(0x21, 0x41, _V4_BODY),
        _v2(0x21, 0x13, _V4_BODY),
        _v2(0x21, 0x11, _V4_BODY[:-1]),
        _v2(0x21, 0x21, _V4_BODY),
        _v2(0x21, 0x31, bytes(215)),
    ],
)
def test_what_is_none_is_refused(raw: bytes) -> None:
    with pytest.raises(HeaderError):
        read_header(raw, "any")


def test_it_is_refused_as_soon_as_it_is_plain() -> None:
    with pytest.raises(HeaderError, match=r"begins with b'PX', not with a PROXY header$"):
        read_header(b"PX", "any")
    with pytest.raises(HeaderError, match="not with a PROXY header of version 2"):
        read_header(b"P", "v2")
    with pytest.raises(HeaderError, match="not with a PROXY header of version 1"):
        read_header(b"\r", "v1")
    with pytest.raises(HeaderError, match="version and command are not valid: 0x30"):
        read_header(SIGNATURE + b"\x30\x11\xff\xff", "any")


def test_a_line_may_be_as_long_as_it_may() -> None:
    longest = b"PROXY UNKNOWN".ljust(105) + b"\r\n"
    assert read_header(longest, "v1") == (Header(), 107)
    with pytest.raises(HeaderError, match="does not end within 107 bytes"):
        read_header(b"PROXY UNKNOWN".ljust(106) + b"\r\n", "v1")


@given(
    st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE, SIGNATURE + b"\x21"]), st.binary()
)
def test_whatever_comes_is_read_or_refused(begun: bytes, data: bytes) -> None:
    raw = begun + data
    try:
        found: Any = read_header(raw, "any")
    except HeaderError:
        return
    if found is not None:
        header, end = found
        assert isinstance(header, Header)
        assert 0 < end <= len(raw)
        assert read_header(raw[:end], "any") == found


@given(st.ip_addresses(v=4), st.ip_addresses(v=6), st.integers(0, 65535), st.integers(0, 65535))
def test_both_versions_say_the_same(v4: Any, v6: Any, source: int, destination: int) -> None:
    for address, name, kind in ((v4, "TCP4", 0x11), (v6, "TCP6", 0x21)):
        line = f"PROXY {name} {address} {address} {source} {destination}\r\n".encode()
        body = address.packed * 2 + struct.pack("!HH", source, destination)
        one: Any = read_header(line, "any")
        two: Any = read_header(_v2(0x21, kind, body), "any")
        assert one[0] == two[0]
        assert (one[0].source.host, one[0].source.port) == (str(address), source)
