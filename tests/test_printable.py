from __future__ import annotations

import errno
import json
import os
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from twisted.internet.address import HostnameAddress, IPv4Address, IPv6Address, UNIXAddress
from twisted.logger import eventAsJSON, formatEvent

from sockservices.printable import (
    Count,
    as_is_or_escaped,
    escaped,
    listening_at,
    peer_of_datagram,
    peer_of_stream,
    quoted,
    system_reason,
    unbracketed,
)

ANY_TEXT = st.text(st.characters())


def _decoded(shown: str) -> bytes:
    """Read what ``escaped`` shows, by the rules that it states."""

    def one(match: re.Match[str]) -> bytes:
        escape = match[1]
        if escape == "\\":
            return b"\\"
        if escape in "nrt":
            return {"n": b"\n", "r": b"\r", "t": b"\t"}[escape]
        code = int(escape[1:], 16)
        return bytes([code]) if escape[0] == "x" else chr(code).encode()

    parts = re.split(r"(\\(?:\\|[nrt]|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8}))", shown)
    pattern = re.compile(r"\\(.*)", re.DOTALL)
    return b"".join(
        one(match) if number % 2 and (match := pattern.fullmatch(part)) else part.encode()
        for number, part in enumerate(parts)
    )


@given(st.binary() | ANY_TEXT)
def test_what_is_shown_is_one_printable_line(data: bytes | str) -> None:
    assert escaped(data).isprintable()


@given(st.text().map(str.encode) | st.binary())
@example(b"\xc2\x80")  # a control character of two bytes, U+0080
@example(b"\x80")
@example(b"\\x80")
@example("\u2028\U000e0001\xad".encode())
def test_what_is_shown_says_which_bytes_were_sent(data: bytes) -> None:
    assert _decoded(escaped(data)) == data


@pytest.mark.parametrize(
    ("one", "other"), [(b"\x80", b"\xc2\x80"), (b"\n", b"\\n"), (b"\xff", "\xff".encode())]
)
def test_two_messages_are_never_shown_alike(one: bytes, other: bytes) -> None:
    assert escaped(one) != escaped(other)


@pytest.mark.parametrize(("text", "shown"), [(r"C:\x é", r"C:\x é"), ("\\\x1b", r"\\\x1b")])
def test_text_is_left_as_it_is_if_all_of_it_is_printable(text: str, shown: str) -> None:
    assert as_is_or_escaped(text) == shown


def test_printable_text_is_shown_as_it_is() -> None:
    assert escaped("Grüße, 世界!".encode()) == "Grüße, 世界!"


def test_what_moves_a_cursor_is_shown_as_an_escape() -> None:
    assert escaped(b"\x1b[2J\r\xff\\") == r"\x1b[2J\r\xff\\"


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        (IPv4Address("TCP", "127.0.0.1", 7), "tcp:127.0.0.1:7"),
        (IPv4Address("UDP", "0.0.0.0", 7), "udp:0.0.0.0:7"),
        (IPv6Address("TCP", "::1", 7), "tcp:[::1]:7"),
        (IPv6Address("UDP", "fe80::1%eth0", 7), "udp:[fe80::1%eth0]:7"),
        (UNIXAddress("/run/a:b"), r"unix:/run/a\:b"),
        (UNIXAddress(b"\0name\n"), r"unix:abstract=name\\n"),
        (HostnameAddress(b"host", 7), str(HostnameAddress(b"host", 7))),
    ],
)
def test_a_listener_is_shown_as_a_description(address: object, shown: str) -> None:
    assert listening_at(address) == shown


@pytest.mark.parametrize(
    ("address", "name"),
    [
        (IPv4Address("TCP", "127.0.0.1", 40000), "127.0.0.1, port 40000"),
        (IPv6Address("TCP", "::1", 40000), "::1, port 40000"),
        (UNIXAddress("/run/x"), "/run/x"),
        (UNIXAddress(""), "an unnamed Unix socket"),
        (UNIXAddress(None), "an unnamed Unix socket"),
        (UNIXAddress("/run/\x1b[2J"), r"/run/\x1b[2J"),
        ("a\nb", r"a\nb"),
    ],
)
def test_the_peer_of_a_stream_has_a_name(address: object, name: str) -> None:
    assert peer_of_stream(address) == name


@pytest.mark.parametrize(
    ("peer", "name"),
    [
        (("127.0.0.1", 40000), "127.0.0.1, port 40000"),
        ("/run/x\n", r"/run/x\n"),
        (b"\0name", "abstract=name"),
        (None, "an unnamed Unix socket"),
    ],
)
def test_the_peer_of_a_datagram_has_a_name(
    peer: tuple[str, int] | str | bytes | None, name: str
) -> None:
    assert peer_of_datagram(peer) == name


@given(st.text(":=\\a b"))
def test_a_quoted_argument_has_no_bare_sign(argument: str) -> None:
    escaped_alone = unbracketed(quoted(argument))
    bare = re.sub(r"\\.", "", escaped_alone)
    assert not set(bare) & set(":=\\")
    assert re.sub(r"\\(.)", r"\1", escaped_alone) == argument


def test_the_reason_of_the_system_is_its_own_words() -> None:
    assert system_reason(OSError(errno.ENOSPC, "whatever")) == os.strerror(errno.ENOSPC)


@pytest.mark.parametrize(
    ("error", "reason"),
    [(OSError("no\nnumber"), r"no\nnumber"), (OSError(123456, "odd\x1b"), r"odd\x1b")],
)
def test_a_reason_that_the_system_does_not_know_is_told_on_one_line(
    error: OSError, reason: str
) -> None:
    assert system_reason(error) == reason


@pytest.mark.parametrize(
    ("bracketed", "plain"),
    [
        ("tcp:[::1]:7", r"tcp:\:\:1:7"),
        ("tcp:7:interface=[fe80::1%eth0.1]", r"tcp:7:interface=fe80\:\:1%eth0.1"),
        ("[::ffff:192.0.2.1]:7", r"\:\:ffff\:192.0.2.1:7"),
        ("udp:7:[::]:[::1]", r"udp:7:\:\::\:\:1"),
        ("unix:/run/[a:b]", "unix:/run/[a:b]"),
        ("unix:[ab]", "unix:[ab]"),
        ("unix:[a:b]", "unix:[a:b]"),
        ("tcp:[::1", "tcp:[::1"),
        ("tcp:x[::1]:7", "tcp:x[::1]:7"),
    ],
)
def test_an_ipv6_address_may_have_brackets(bracketed: str, plain: str) -> None:
    assert unbracketed(bracketed) == plain


@pytest.mark.parametrize("address", ["::", "::1", "fe80::1%eth0", "2001:db8::7", "::ffff:1.2.3.4"])
def test_an_ipv6_address_is_shown_in_brackets(address: str) -> None:
    assert quoted(address) == f"[{address}]"
    assert unbracketed(f"tcp:{quoted(address)}:7") == f"tcp:{address.replace(':', chr(92) + ':')}:7"


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 boxes"), (1, "1 box"), (2, "2 boxes"), (21, "21 boxes")]
)
def test_a_number_of_things_is_shown_with_their_name(number: int, text: str) -> None:
    count = Count(number, "box", "boxes")
    assert (str(count), f"{count}", f"{count:>3}") == (text, text, f"{number:>3}")
    assert (count, json.dumps([count])) == (number, f"[{number}]")
    event = {"log_format": "there: {count}", "count": count}
    assert formatEvent(event) == f"there: {text}"
    flattened = json.loads(eventAsJSON(event))
    assert (flattened["count"], formatEvent(flattened)) == (number, f"there: {text}")
