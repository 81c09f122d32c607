from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock

from sockservices.errors import DescriptionError, SettingError
from sockservices.listening import DatagramListener, Listening, StreamListener, listener
from sockservices.transports import Access
from tests.certificates import make_certificate
from tests.fakes import ManualReactor, result_of


def _listening(description: str, **defaults: Any) -> MemoryReactorClock:
    reactor = MemoryReactorClock()
    found = listener(reactor, description, Listening(**defaults))
    assert isinstance(found, StreamListener)
    assert len(result_of(found.endpoint.listen(Factory()))) == 1
    return reactor


def test_the_backlog_is_that_of_descriptions_that_do_not_say() -> None:
    assert _listening("tcp:7", backlog=3).tcpServers[0][2] == 3
    assert _listening("tcp:7:backlog=4", backlog=3).tcpServers[0][2] == 4


def test_the_mode_and_the_owner_are_those_of_descriptions_that_do_not_say() -> None:
    owner: Any = "root"
    settings = Listening(mode=0o640, socket_owner=owner, socket_group=7)
    for prefix in ("unix", "unixgram"):
        for own, access in (
            ("", Access(0o640, 0, 7)),
            (":mode=606", Access(0o606, 0, 7)),
            (":owner=1:group=root", Access(0o640, 1, 0)),
        ):
            found = listener(ManualReactor(), f"{prefix}:/run/x{own}", settings)
            assert found.endpoint.access == access


def test_the_receive_buffer_is_that_of_udp() -> None:
    settings = Listening(receive_buffer=70000)
    found = listener(ManualReactor(), "udp:7", settings)
    assert found.endpoint.receive_buffer == 70000
    assert found.is_a("UDP")
    assert found.is_a("datagram")
    assert not listener(ManualReactor(), "unixgram:/run/x", settings).is_a("UDP")
    for wrong in (0, 2**30):
        with pytest.raises(SettingError, match="whole number from 1 to 1073741823"):
            Listening(receive_buffer=wrong)


def test_port_and_socket_come_first_and_mean_the_kind_that_is_asked_for() -> None:
    settings = Listening(port=7, interface="::1", socket="/run/a:b", listen=["tcp:1", "udp:2"])
    assert settings.descriptions("stream") == [
        *("tcp:7:interface=[::1]", r"unix:/run/a\:b", "tcp:1", "udp:2"),
    ]
    assert settings.descriptions("datagram") == [
        *("udp:7:interface=[::1]", r"unixgram:/run/a\:b", "tcp:1", "udp:2"),
    ]
    assert Listening().descriptions("stream") == []
    assert Listening(port=0).descriptions("datagram") == ["udp:0"]


def test_each_interface_is_a_listener() -> None:
    loopback: Any = IPv4Address("127.0.0.1")
    settings = Listening(port=7, interface=[loopback, "::1"])
    assert settings.descriptions("stream") == [
        "tcp:7:interface=127.0.0.1",
        "tcp:7:interface=[::1]",
    ]
    both = Listening(port=7, interface=["0.0.0.0", "::"], listen=["tcp6:8", "udp:8"])
    assert both.descriptions("datagram") == [
        *("udp:7:interface=0.0.0.0", "udp:7:interface=[::]:ipv6only=yes", "tcp6:8", "udp:8"),
    ]


def test_an_interface_needs_a_port() -> None:
    with pytest.raises(SettingError, match=r"interface.*port"):
        Listening(interface="::1", socket="/run/x")


def test_the_help_speaks_of_the_kind_that_port_means() -> None:
    streams = {each.argument: each.help for each in Listening.described_for("stream")}
    datagrams = {each.argument: each.help for each in Listening.described_for("datagram")}
    assert list(streams) == list(datagrams)
    assert "TCP port" in streams["port"]
    assert "UDP port" in datagrams["port"]
    assert "Unix stream socket" in streams["socket"]
    assert "Unix datagram socket" in datagrams["socket"]
    assert streams["backlog"] == datagrams["backlog"]


# Twisted's own, with a recent pyOpenSSL.
@pytest.mark.filterwarnings("ignore:X509:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")
def test_what_a_description_asks_for_is_known_before_it_listens(tmp_path: Path) -> None:
    make_certificate(tmp_path)
    files = f"privateKey={tmp_path}/key.pem:certKey={tmp_path}/trusted/cert.pem"

    def asked(description: str) -> tuple[bool, bool, bool, bool]:
        found = listener(MemoryReactorClock(), description, Listening())
        assert isinstance(found, StreamListener)
        assert found.description == description
        return found.has_tls, found.reads_proxy_headers, found.is_foreign, found.is_unix

    for description in ("tcp:7", "TCP6:7"):
        assert asked(description) == (False, False, False, False)
    assert asked("unix:/run/tls") == (False, False, False, True)
    assert asked("haproxy:tcp:7") == (False, True, True, False)
    assert asked("haproxy:unix:/run/x") == (False, True, True, True)
    assert asked(f"ssl:7:{files}") == (True, False, True, False)
    assert asked(f"haproxy:ssl:7:{files}") == (True, True, True, False)


# Twisted's own, with a recent pyOpenSSL.
@pytest.mark.filterwarnings("ignore:X509:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")
def test_only_where_a_description_names_certificates_they_are_looked_at_again(
    tmp_path: Path,
) -> None:
    make_certificate(tmp_path)
    files = f"privateKey={tmp_path}/key.pem:certKey={tmp_path}/trusted/cert.pem"
    assert listener(MemoryReactorClock(), "tcp:7", Listening()).look_again is None
    assert listener(MemoryReactorClock(), "udp:7", Listening()).look_again is None
    look_again = listener(MemoryReactorClock(), f"ssl:7:{files}", Listening()).look_again
    assert look_again is not None
    factory = Factory()
    assert look_again(factory).wrappedFactory is factory
    (tmp_path / "key.pem").unlink()
    with pytest.raises(DescriptionError, match=r"key\.pem"):
        look_again(factory)


@pytest.mark.parametrize(
    ("description", "kinds"),
    [
        ("tcp:7", {"stream", "TCP"}),
        ("haproxy:tcp:7", {"stream", "TCP"}),
        ("unix:/run/x", {"stream", "Unix stream", "Unix path"}),
        ("unix:abstract=x", {"stream", "Unix stream"}),
        ("haproxy:unix:/run/x", {"stream", "Unix stream", "Unix path"}),
        ("udp:7", {"datagram", "UDP"}),
        ("unixgram:/run/x", {"datagram", "Unix path"}),
        ("unixgram:abstract=x", {"datagram"}),
    ],
)
def test_a_listener_is_of_the_kinds_that_settings_are_of(description: str, kinds: set[str]) -> None:
    found = listener(MemoryReactorClock(), description, Listening())
    every = ("stream", "TCP", "Unix stream", "Unix path", "datagram", "UDP")
    assert {kind for kind in every if found.is_a(kind)} == kinds
    assert found.kind in kinds


def test_a_datagram_listener_has_nothing_of_streams() -> None:
    found = listener(ManualReactor(), "udp:7", Listening())
    assert isinstance(found, DatagramListener)
    assert {found.has_tls, found.reads_proxy_headers, found.is_foreign} == {False}


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"port": 65536}, "port: 65536 "),
        ({"port": 0, "interface": ""}, "interface: is empty"),
        ({"socket": ""}, "socket: "),
        ({"mode": "999"}, "mode: '999' "),
        ({"backlog": 0}, "backlog: 0 "),
    ],
)
def test_a_setting_that_cannot_be_is_named(arguments: dict[str, Any], reason: str) -> None:
    with pytest.raises(SettingError, match=reason):
        Listening(**arguments)
