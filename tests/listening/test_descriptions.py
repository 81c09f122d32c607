from __future__ import annotations

import re
import string
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from twisted.internet.endpoints import quoteStringArgument, serverFromString
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock

from sockservices.errors import DescriptionError
from sockservices.listening import (
    Description,
    Listening,
    StreamListener,
    backlog_length,
    description_of,
    ip_address,
    listener,
    not_empty,
    port_number,
)
from sockservices.listening.descriptions import IP_PARTS, UNIX_PARTS
from sockservices.printable import unbracketed

ANY_TEXT = st.text(st.characters())
SIGNS = st.text(":=\\ab \n", max_size=12)
PREFIXES = st.sampled_from(
    [
        *("tcp", "tcp6", "unix", "ssl", "udp", "unixgram", "systemd", "haproxy", "stdio"),
        *("fd", "UNIX", "haproxy:tcp", "haproxy:systemd", "systemd:domain=INET", "nothing"),
    ]
)
ARGUMENTS = st.lists(
    ANY_TEXT
    | SIGNS
    | st.sampled_from(["0", "7", "99999", "interface=::1", "interface=x", "mode=600", "mode=9"])
    | st.sampled_from(["abstract=a", "lockfile=1", "lockfile=", "backlog=0", "index=0", "port=1"])
    | st.sampled_from(["privateKey=/nowhere", "address=a", "=", "name=x", "domain=UNIX"]),
    max_size=3,
)
NAMES = st.text(string.ascii_lowercase, min_size=1, max_size=6)


def _listener(text: str) -> None:
    said = ""
    try:
        listener(MemoryReactorClock(), text, Listening())
    except DescriptionError as error:
        said = str(error)
    assert len(said.splitlines()) <= 1


@given(ANY_TEXT | SIGNS)
@example("\\")
@example("tcp:7\\")
@example("=:=")
def test_any_text_is_a_listener_or_a_description_error(text: str) -> None:
    _listener(text)


@given(PREFIXES, ARGUMENTS)
@example("unix", ["\ud800"])
@example("unixgram", ["\ud800"])
@example("unixgram", ["abstract=\ud800"])
@example("systemd", ["domain=INET", "index=0"])
@example("haproxy", ["tcp", "7"])
@example("stdio", [""])
@example("tls", ["/nowhere"])  # which walks through folders: not to be drawn at random
def test_any_arguments_of_any_type_are_a_listener_or_a_description_error(
    prefix: str, arguments: list[str]
) -> None:
    _listener(":".join([prefix, *arguments]))


@given(NAMES, st.lists(ANY_TEXT | SIGNS, min_size=1), st.dictionaries(NAMES, ANY_TEXT | SIGNS))
def test_what_is_written_is_read_again(
    prefix: str, positional: list[str], named: dict[str, str]
) -> None:
    named.pop("prefix", None)
    parsed = Description.parse(description_of(prefix, *positional, **named))
    assert (parsed.prefix, list(parsed.positional)) == (prefix, positional)
    assert parsed.named == named


def test_what_is_none_is_left_out() -> None:
    assert description_of("tcp", "7", interface=None, backlog=5) == "tcp:7:backlog=5"


def test_the_prefix_is_read_in_any_case() -> None:
    assert Description.parse("TCP:7").prefix == "tcp"


def _twisted_unix(description: str) -> dict[str, Any] | None:
    """What Twisted's parser makes of a ``unix:`` description; nothing if it refuses."""
    reactor = MemoryReactorClock()
    try:
        serverFromString(reactor, description).listen(Factory())
    except Exception:
        return None
    address, _factory, backlog, mode, lockfile = reactor.unixServers[0]
    return {"address": address, "backlog": backlog, "mode": mode, "lockfile": bool(lockfile)}


@given(SIGNS)
def test_a_path_is_what_twisted_reads(text: str) -> None:
    description = f"unix:{text}"
    twisted = _twisted_unix(description)
    parsed: Description | None
    try:
        parsed = Description.parse(description)
    except DescriptionError as error:
        parsed, refused = None, str(error)
    if parsed is None:
        assert twisted is None or "given twice" in refused
        return
    assert parsed.prefix == "unix"
    if twisted is not None:
        assert [*parsed.positional, *parsed.named.values()][0] == twisted["address"]


@given(st.text(st.characters(codec="utf-8")))
def test_what_twisted_quotes_is_read_as_twisted_reads_it(text: str) -> None:
    text = text.replace("=", "-")  # Twisted leaves it bare
    description = f"unix:{quoteStringArgument(text)}"
    assert Description.parse(description).positional == (text,)
    twisted = _twisted_unix(description)
    assert twisted is not None
    assert twisted["address"] == text


@given(st.text(":=\\ab/", min_size=1))
def test_what_we_quote_is_read_alike_by_twisted(text: str) -> None:
    description = description_of("unix", text, mode="640", backlog=7)
    twisted = _twisted_unix(unbracketed(description))
    assert twisted is not None
    values = Description.parse(description).values(UNIX_PARTS["unix"])
    assert {name: twisted[name] for name in values} == values
    assert values == {"address": text, "mode": 0o640, "backlog": 7}


@pytest.mark.parametrize("text", ["", "tcp", ":", ":7", "port=7", "a=b:c=d"])
def test_what_has_no_type_and_argument_is_no_description(text: str) -> None:
    with pytest.raises(DescriptionError, match="is not an endpoint description"):
        Description.parse(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "tcp:7:::1",
            "in 'tcp:7:::1', an argument is empty; write an IPv6 address in brackets",
        ),
        ("tcp:127.0.0.1:7", "the port comes first: write tcp:7:interface=127.0.0.1"),
        ("tcp:localhost:7", "the port comes first: write tcp:7:interface=localhost"),
        ("tcp:*:7", "in 'tcp:*:7', the port comes first: write tcp:7"),
        ("tcp:::1:7", "in 'tcp:::1:7', the port comes first: write tcp:7:interface=[::1]"),
        ("tcp:::7", "in 'tcp:::7', the port comes first: write tcp:7:interface=[::]"),
        ("tcp:[::1]:7", "in 'tcp:[::1]:7', the port comes first: write tcp:7:interface=[::1]"),
        ("tcp:7:127.0.0.1:5:6", "in 'tcp:7:127.0.0.1:5:6', '6' is one argument too many"),
        ("tcp:port=7:door=8", "'door' is unknown: tcp takes port, interface, backlog, ipv6only, "),
        ("tcp:7:port=8", "port is given twice"),
        ("tcp:port=7:port=8", "in 'tcp:port=7:port=8', port is given twice"),
        ("tcp:backlog=5", "has no port"),
        ("tcp:seven", "port: 'seven' is not a whole number from 0 to 65535"),
        ("tcp:7:backlog=0", "backlog: 0 is not a whole number from 1 to"),
        (r"tcp:7:interface=\:\:x", "interface: '::x' is not an IPv4 or IPv6 address"),
    ],
)
def test_the_faulty_part_is_named(text: str, reason: str) -> None:
    with pytest.raises(DescriptionError, match=re.escape(reason)):
        Description.parse(text).values(IP_PARTS["tcp"], required="port")


@pytest.mark.parametrize("port", [0, 1, 65535])
def test_ports_have_their_range(port: int) -> None:
    assert port_number(str(port)) == port
    for wrong in ("-1", "65536"):
        with pytest.raises(ValueError, match="65535"):
            port_number(wrong)
    with pytest.raises(ValueError, match="2147483648"):
        backlog_length(2**31)


@pytest.mark.parametrize("address", ["127.0.0.1", "::", "fe80::1", "0.0.0.0"])
def test_numeric_addresses_are_taken(address: str) -> None:
    assert ip_address(address) == address


@given(ANY_TEXT | st.sampled_from(["localhost", "1.2.3", "256.1.1.1", ":::", "%", "\0"]))
def test_other_text_is_no_address(text: str) -> None:
    if re.fullmatch(r"[0-9.]+|[0-9a-fA-F:.]*:[0-9a-fA-F:.]*(%.*)?", text, re.DOTALL) is None:
        with pytest.raises(ValueError, match="is not an IPv4 or IPv6 address"):
            ip_address(text)


def test_something_is_not_nothing() -> None:
    assert not_empty(" ") == " "
    with pytest.raises(ValueError, match="is empty"):
        not_empty("")


def test_a_listener_keeps_the_description_as_it_was_written() -> None:
    found = listener(MemoryReactorClock(), "TCP:7", Listening())
    assert isinstance(found, StreamListener)
    assert found.description == "TCP:7"
