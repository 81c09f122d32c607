from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import attrs
import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from sockservices.connections import limits as module
from sockservices.connections.ledger import Ledger
from sockservices.connections.limits import Limits, RunningLimits
from sockservices.connections.networks import network
from sockservices.connections.rates import Rate
from sockservices.errors import SettingError
from tests.fakes import context, opened


def peer(host: str) -> Any:
    return (IPv6Address if ":" in host else IPv4Address)("TCP", host, 40000)


class Entry:
    """RunningLimits, a ledger, a clock, and those who have come in."""

    def __init__(self, **limits: Any) -> None:
        self.now = 1000.0
        self.ledger = Ledger("echo")
        self.guards = RunningLimits(Limits(**limits), context(self.ledger), lambda: self.now)

    def knock(self, host: str | None = "192.0.2.1") -> str | StringTransport:
        """Come in, or hear why not."""
        address = UNIXAddress(None) if host is None else peer(host)
        guards = self.guards
        reason = guards.ask_socket(address, None) if guards.ask_socket else None
        reason = reason or (guards.ask_peer(address, False) if guards.ask_peer else None)
        if reason is not None:
            return reason
        transport = StringTransport(peerAddress=address)
        connection = opened(self.ledger, transport, object())
        if guards.opened is not None:
            guards.opened(connection, address)
        return transport

    def leave(self, transport: Any) -> None:
        self.ledger.close(transport, Failure(ConnectionDone()))

    def datagram(self, address: Any) -> str | None:
        """Return why a datagram is dropped."""
        assert self.guards.ask_datagram is not None
        return self.guards.ask_datagram(address)

    def is_allowed(self, host: str) -> bool:
        assert self.guards.ask_peer is not None
        return self.guards.ask_peer(peer(host), True) is None

    def change(self, **limits: Any) -> None:
        self.guards.change(Limits(**limits))()

    def reload(self) -> None:
        """Read the files again."""
        self.guards.change(self.guards.settings)()


def test_without_limits_all_come_in() -> None:
    entry = Entry()
    assert all(isinstance(entry.knock(), StringTransport) for _ in range(1000))


def test_so_many_at_a_time() -> None:
    entry = Entry(max_connections=2)
    first = entry.knock()
    entry.knock("192.0.2.2")
    assert entry.guards.is_full
    assert entry.knock("192.0.2.3") == "max-connections"
    entry.leave(first)
    assert not entry.guards.is_full
    assert isinstance(entry.knock(), StringTransport)


@pytest.mark.parametrize(
    ("same", "other"),
    [
        (("192.0.2.1", "192.0.2.1"), "192.0.2.2"),
        (("2001:db8::1", "2001:db8::ffff:2"), "2001:db8:0:1::1"),  # a /64 is one
        (("192.0.2.1", "::ffff:192.0.2.1"), "::ffff:192.0.2.2"),
    ],
)
def test_so_many_from_one_source(same: tuple[str, str], other: str) -> None:
    entry = Entry(max_per_source=2)
    transports = [entry.knock(host) for host in same]
    assert all(isinstance(each, StringTransport) for each in transports)
    assert entry.knock(same[0]) == "max-per-source"
    assert isinstance(entry.knock(other), StringTransport)
    entry.leave(transports[0])
    assert isinstance(entry.knock(same[0]), StringTransport)
    assert entry.knock(same[0]) == "max-per-source"


def test_who_has_left_is_forgotten() -> None:
    entry = Entry(max_per_source=1)
    for number in range(5000):
        host = f"10.0.{number >> 8}.{number & 255}"
        entry.leave(entry.knock(host))
        assert isinstance(entry.knock(host), StringTransport)
        entry.leave(next(iter(entry.ledger)).transport)
    assert len(entry.guards._sources) <= 1024  # of whom it is known without a look


def test_who_is_in_is_not_forgotten_though_many_others_come() -> None:
    entry = Entry(max_per_source=1)
    entry.knock("192.0.2.1")
    for number in range(3000):
        entry.leave(entry.knock(f"10.0.{number >> 8}.{number & 255}"))
    assert entry.knock("192.0.2.1") == "max-per-source"


def test_who_is_exempt_has_no_limits_of_a_source() -> None:
    entry = Entry(max_per_source=1, rate_per_source=Rate(1, 60), exempt=[network("192.0.2.0/24")])
    assert all(isinstance(entry.knock("192.0.2.1"), StringTransport) for _ in range(10))
    entry.knock("198.51.100.1")
    assert entry.knock("198.51.100.1") == "max-per-source"


@pytest.mark.parametrize(
    ("limits", "is_read"),
    [
        ({"max_connections": 9}, False),
        ({"rate": Rate(9, 9)}, False),
        ({"max_per_source": 9}, True),
        ({"rate_per_source": Rate(9, 9)}, True),
        ({"deny": [network("192.0.2.0/24")]}, True),
    ],
)
def test_an_address_is_read_only_where_it_matters(
    limits: dict[str, Any], is_read: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    monkeypatch.setattr(module, "address", lambda host: read.append(host))
    Entry(**limits).knock("192.0.2.1")
    assert bool(read) == is_read


def test_all_may_be_exempt() -> None:
    entry = Entry(max_per_source=1, exempt=[network("0.0.0.0/0")])
    assert all(isinstance(entry.knock(), StringTransport) for _ in range(3))
    entry.knock("2001:db8::1")
    assert entry.knock("2001:db8::1") == "max-per-source"


def test_ipv4_addresses_are_sources_each() -> None:
    entry = Entry(max_per_source=1)
    for last in range(1, 5):
        assert isinstance(entry.knock(f"192.0.2.{last}"), StringTransport)
        assert entry.knock(f"192.0.2.{last}") == "max-per-source"


def test_unix_peers_have_no_source() -> None:
    entry = Entry(max_per_source=1, rate_per_source=Rate(1, 60), allow=[network("192.0.2.1")])
    assert all(isinstance(entry.knock(None), StringTransport) for _ in range(10))


def test_a_rate_of_one_source_is_not_anothers() -> None:
    entry = Entry(rate_per_source=Rate(2, 10))
    for _ in range(2):
        for host in ("192.0.2.1", "192.0.2.2"):
            assert isinstance(entry.knock(host), StringTransport)
    assert entry.knock("192.0.2.1") == "rate-per-source"
    entry.now += 10
    assert isinstance(entry.knock("192.0.2.1"), StringTransport)


def test_who_is_refused_uses_nothing_of_the_rate_of_all() -> None:
    entry = Entry(rate=Rate(2, 10), rate_per_source=Rate(1, 10))
    entry.knock("192.0.2.1")
    assert entry.knock("192.0.2.1") == "rate-per-source"
    assert isinstance(entry.knock("192.0.2.2"), StringTransport)
    assert entry.knock("192.0.2.3") == "rate"


@pytest.mark.parametrize(
    ("allow", "deny", "host", "admitted"),
    [
        ([], ["192.0.2.0/24"], "192.0.2.1", False),
        ([], ["192.0.2.0/24"], "198.51.100.1", True),
        (["192.0.2.0/24"], [], "192.0.2.1", True),
        (["192.0.2.0/24"], [], "198.51.100.1", False),
        (["192.0.2.0/24"], ["192.0.2.1"], "192.0.2.1", False),
        (["192.0.2.1"], ["192.0.2.0/24"], "192.0.2.1", True),
        (["192.0.2.0/24"], ["192.0.2.0/24"], "192.0.2.1", False),
        (["192.0.2.0/24"], ["0.0.0.0/0"], "2001:db8::1", False),
        ([], ["0.0.0.0/0"], "192.0.2.1", False),
        ([], ["::/0"], "2001:db8::1", False),
        (["0.0.0.0/0"], [], "192.0.2.1", True),
        (["0.0.0.0/0"], ["192.0.2.0/24"], "198.51.100.1", True),
        (["192.0.2.0/24"], ["0.0.0.0/0"], "192.0.2.1", True),
        (["::/0"], ["0.0.0.0/0"], "192.0.2.1", False),
        (["0.0.0.0/0"], ["0.0.0.0/0"], "192.0.2.1", False),
        ([], ["2001:db8::/32"], "2001:db8::1", False),
        ([], ["192.0.2.0/24"], "::ffff:192.0.2.1", False),
    ],
)
def test_the_more_specific_network_decides(
    allow: list[str], deny: list[str], host: str, admitted: bool
) -> None:
    entry = Entry(allow=[*map(network, allow)], deny=[*map(network, deny)])
    assert entry.is_allowed(host) is admitted
    assert (entry.knock(host) == "denied") is not admitted


def test_files_are_read_again_and_a_broken_one_changes_nothing(tmp_path: Path) -> None:
    allowed, denied = tmp_path / "allow", tmp_path / "deny"
    allowed.write_text("192.0.2.0/24\n")
    denied.write_text("")
    entry = Entry(allow_file=[str(allowed)], deny_file=[str(denied)])
    assert entry.is_allowed("192.0.2.1")
    denied.write_text("192.0.2.1\n")
    assert entry.is_allowed("192.0.2.1")
    entry.reload()
    assert not entry.is_allowed("192.0.2.1")
    allowed.write_text("nowhere\n")
    denied.write_text("")
    with pytest.raises(ValueError, match="allow, line 1: 'nowhere' is not a network"):
        entry.reload()
    assert not entry.is_allowed("192.0.2.1")
    assert entry.is_allowed("192.0.2.2")
    allowed.write_text("")  # nobody at all
    entry.reload()
    assert not entry.is_allowed("192.0.2.2")


def test_files_are_found_when_the_process_has_changed_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "allow").write_text("192.0.2.0/24\n")
    (tmp_path / "deny").write_text("192.0.2.1\n")
    monkeypatch.chdir(tmp_path)
    entry = Entry(allow_file=["allow"], deny_file=["deny"])
    monkeypatch.chdir("/")
    (tmp_path / "deny").write_text("192.0.2.2\n")
    entry.reload()
    assert entry.is_allowed("192.0.2.1")
    assert not entry.is_allowed("192.0.2.2")
    assert not entry.is_allowed("198.51.100.1")


def test_datagrams_have_rates_of_their_own() -> None:
    entry = Entry(rate=Rate(3, 10), rate_per_source=Rate(2, 10), max_connections=1)
    entry.knock()
    assert entry.knock() == "max-connections"
    reasons = [entry.datagram(peer("192.0.2.1")) for _ in range(3)]
    assert reasons == [None, None, "rate-per-source"]
    reasons = [entry.datagram(peer("192.0.2.2")) for _ in range(2)]
    assert reasons == [None, "rate"]
    entry.now += 10
    assert entry.datagram(peer("192.0.2.1")) is None
    # Of a Unix peer it is not known who it is; the rate of all holds.
    assert entry.datagram(UNIXAddress(b"/run/x")) is None
    assert entry.datagram(UNIXAddress(None)) is None
    assert entry.datagram(UNIXAddress(None)) == "rate"


def test_datagrams_are_of_networks_that_are_admitted() -> None:
    entry = Entry(deny=[network("192.0.2.0/24")])
    assert entry.datagram(peer("192.0.2.1")) == "denied"
    assert entry.datagram(peer("198.51.100.1")) is None


@pytest.mark.parametrize("limits", [{"max_connections": 1}, {"max_per_source": 1}])
def test_limits_of_connections_say_nothing_of_datagrams(limits: dict[str, int]) -> None:
    assert Entry(**limits).guards.ask_datagram is None


@pytest.mark.parametrize(("prefix", "is_same"), [(64, True), (80, False), (56, True), (128, False)])
def test_how_much_of_an_ipv6_address_is_a_source(prefix: int, is_same: bool) -> None:
    entry = Entry(max_per_source=1, ipv6_prefix=prefix)
    entry.knock("2001:db8::1:0:0:1")
    assert (entry.knock("2001:db8::2:0:0:1") == "max-per-source") is is_same
    assert isinstance(entry.knock("192.0.2.1"), StringTransport)
    assert isinstance(entry.knock("192.0.2.2"), StringTransport)


@pytest.mark.parametrize("text", ["0/60", "1/0", "x", "1", "1/-1", "", "1/1/1"])
def test_what_is_no_rate_is_refused_for_embedders_too(text: str) -> None:
    with pytest.raises(SettingError, match=r"^rate: .* is not a rate"):
        Limits(rate=text)  # type: ignore[arg-type]
    assert Limits(rate="100/60.5") == Limits(rate=Rate(100, 60.5))  # type: ignore[arg-type]


def test_what_goes_with_others_is_refused_without_them_for_embedders_too() -> None:
    for wrong in ({"at_limit": "wait"}, {"exempt": ["192.0.2.1"]}, {"ipv6_prefix": 48}):
        with pytest.raises(SettingError, match=" goes with max_"):
            Limits(**wrong)


def test_limits_that_are_none_ask_nothing() -> None:
    guards = Entry().guards
    assert (guards.ask_socket, guards.ask_peer, guards.ask_datagram) == (None, None, None)
    assert (guards.entered, guards.opened) == (None, None)


# While it runs


def test_a_limit_that_comes_later_counts_those_who_are_in() -> None:
    entry = Entry()
    first = entry.knock()
    entry.knock("192.0.2.2")
    entry.change(max_per_source=1)
    assert entry.knock() == "max-per-source"
    entry.leave(first)
    assert isinstance(entry.knock(), StringTransport)
    entry.change(max_connections=2)
    assert entry.knock("192.0.2.3") == "max-connections"
    entry.change()
    assert isinstance(entry.knock("192.0.2.3"), StringTransport)


def test_who_is_not_allowed_any_more_is_ended() -> None:
    entry = Entry()
    stays, goes = entry.knock("192.0.2.1"), entry.knock("198.51.100.1")
    entry.change(deny=["198.51.100.0/24"])
    assert entry.ledger.of(goes).cut == "denied"
    assert entry.ledger.of(stays).cut is None


def test_a_rate_that_stays_goes_on_and_another_begins_anew() -> None:
    entry = Entry(rate=Rate(1, 60))
    entry.knock()
    entry.change(rate=Rate(1, 60), rate_per_source=Rate(9, 60))
    assert entry.knock() == "rate"
    entry.change(rate=Rate(2, 60))
    assert isinstance(entry.knock(), StringTransport)
    assert isinstance(entry.knock(), StringTransport)
    assert entry.knock() == "rate"


def test_a_change_that_cannot_be_made_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "denied").write_text("192.0.2.1\n")
    entry = Entry(deny_file=[str(tmp_path / "denied")])
    (tmp_path / "denied").write_text("nowhere\n")
    with pytest.raises(SettingError, match=r"^deny_file: .* line 1: 'nowhere' is not a network"):
        entry.reload()
    assert entry.knock() == "denied"


# Users, and buffers


class UnixPair:
    """A connection on a Unix socket, in the ledger."""

    def __init__(self, entry: Entry, peer: Any = None) -> None:
        self.ours, self.theirs = socket.socketpair(socket.AF_UNIX)
        transport: Any = StringTransport(peerAddress=peer or UNIXAddress(None))
        transport.getHandle = lambda: self.ours
        self.connection = opened(entry.ledger, transport, object())

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()


def test_a_user_is_asked_for_on_unix_sockets_alone() -> None:
    for limits, expected in (
        ({"allow_user": [os.getuid()]}, None),
        ({"allow_user": [os.getuid() + 1]}, "user"),
        ({"allow_group": [os.getgid()]}, None),
        ({"allow_group": [os.getgid() + 1000]}, "user"),
        ({"allow_user": [os.getuid() + 1], "allow_group": [os.getgid()]}, None),
    ):
        ask = Entry(**limits).guards.ask_socket
        assert ask is not None
        ours, theirs = socket.socketpair(socket.AF_UNIX)
        with ours, theirs:
            assert ask(UNIXAddress(None), ours) == expected
        assert ask(UNIXAddress(None), ours) == "user"  # of a closed one nothing is known
        assert ask(UNIXAddress(None), None) == "user"
        assert ask(peer("192.0.2.1"), None) is None


def test_who_is_not_a_user_any_more_is_ended() -> None:
    entry = Entry()
    pair, other = UnixPair(entry), entry.knock("192.0.2.1")
    entry.change(allow_user=[os.getuid()])
    assert pair.connection.cut is None
    entry.change(allow_user=[os.getuid() + 1])
    assert pair.connection.cut == "user"
    assert entry.ledger.of(other).cut is None
    pair.close()


def test_a_transport_that_has_no_socket_is_of_no_user() -> None:
    entry = Entry()
    connection = opened(entry.ledger, StringTransport(peerAddress=UNIXAddress(None)), object())
    entry.change(allow_user=[os.getuid()])
    assert connection.cut == "user"


def test_who_is_still_to_be_identified_is_not_asked_about() -> None:
    entry = Entry()
    connection = entry.ledger.enter("tcp:7", StringTransport(peerAddress=peer("192.0.2.1")))
    entry.change(deny=["192.0.2.0/24"], max_per_source=1)
    assert (connection.cut, connection.source) == (None, None)


def test_a_port_is_told_how_much_may_wait() -> None:
    class Port:
        max_unsent: int | None = None
        on_overflow: Any = None

    entry, port = Entry(max_write_buffer=5), Port()
    entry.guards.listens(port)
    assert port.max_unsent == 5
    transport = entry.knock()
    port.on_overflow(transport)
    assert entry.ledger.of(transport).cut == "max-write-buffer"
    entry.change()
    entry.guards.listens(port)
    assert port.max_unsent is None


def test_who_waits_for_a_place_is_told_by_who_leaves() -> None:
    told: list[str] = []
    ledger = Ledger("echo")
    where = attrs.evolve(
        context(ledger),
        pause=lambda reason: told.append(f"pause {reason}"),
        resume=lambda reason: told.append(f"resume {reason}"),
    )
    limits = Limits(max_connections=1, at_limit="wait")
    guards = RunningLimits(limits, where)
    assert told == ["resume full"]
    transport = StringTransport(peerAddress=peer("192.0.2.1"))
    connection = opened(ledger, transport, object())
    assert guards.opened is not None
    assert guards.entered is not None
    guards.opened(connection, peer("192.0.2.1"))
    assert told[1:] == ["pause full"]
    ledger.close(transport, Failure(ConnectionDone()))
    assert told[2:] == ["resume full"]
    guards.entered(ledger.enter("tcp:7", transport))
    assert told[3:] == ["pause full"]
    guards.change(Limits(max_connections=1))()
    assert told[4:] == ["resume full"]


def test_one_that_is_opened_after_another_was_asked_counts_where_it_belongs() -> None:
    entry = Entry(max_per_source=1)
    guards, first, second = entry.guards, peer("192.0.2.1"), peer("192.0.2.2")
    assert guards.ask_peer is not None
    assert guards.opened is not None
    assert guards.ask_peer(first, False) is None
    assert guards.ask_peer(second, False) is None
    connection = opened(entry.ledger, StringTransport(peerAddress=first), object())
    guards.opened(connection, first)
    assert guards.ask_peer(first, False) == "max-per-source"
    assert guards.ask_peer(second, False) is None


def test_a_place_is_asked_for_only_by_those_who_have_none() -> None:
    entry = Entry(max_connections=1)
    entry.knock()
    guards = entry.guards
    assert guards.ask_peer is not None
    assert guards.ask_place is not None
    assert guards.ask_peer(peer("192.0.2.1"), False) == "max-connections"
    assert guards.ask_peer(peer("192.0.2.1"), True) is None
    assert guards.ask_place() == "max-connections"


def test_one_network_is_one_and_not_its_addresses() -> None:
    for allow in (network("10.0.0.0/8"), "10.0.0.0/8", [network("10.0.0.0/8")]):
        assert Limits(allow=allow).allow == (network("10.0.0.0/8"),)  # type: ignore[arg-type]
    with pytest.raises(SettingError, match=r"^allow: b'10\.0\.0\.0/8' is not a network"):
        Limits(allow=b"10.0.0.0/8")  # type: ignore[arg-type]


def test_who_is_denied_is_denied_also_when_it_is_full() -> None:
    entry = Entry(max_connections=1, deny=[network("192.0.2.9")])
    entry.knock()
    assert entry.knock("192.0.2.9") == "denied"
    assert entry.knock() == "max-connections"


def test_of_a_unix_peer_its_place_is_asked_before_its_user() -> None:
    entry = Entry(max_connections=1, allow_user=[os.getuid() + 1])
    entry.knock()
    assert entry.knock(None) == "max-connections"


def test_the_user_is_that_of_the_socket_and_not_of_whom_a_header_names() -> None:
    entry = Entry()
    named = StringTransport(peerAddress=UNIXAddress(b"/run/of/a/client"))
    with socket.socket() as ours:
        named.getHandle = lambda: ours  # type: ignore[attr-defined]
        connection = opened(entry.ledger, named, object())
        entry.change(allow_user=[os.getuid() + 1])
    assert connection.cut is None
