from __future__ import annotations

import pytest

from sockservices.listening.descriptions import Description
from sockservices.listening.ip_place import IpPlace, ip_place


def _place(text: str) -> IpPlace | None:
    return ip_place(Description.parse(text))


@pytest.mark.parametrize(
    ("text", "port", "interface"),
    [
        ("tcp:7", ("tcp", 7), ""),
        ("TCP:port=07", ("tcp", 7), ""),
        ("tcp:7:127.0.0.1:5", ("tcp", 7), "127.0.0.1"),
        ("tcp6:7", ("tcp", 7), "::"),
        (r"tcp6:7:5:\:\:1", ("tcp", 7), "::1"),
        (r"udp:7:\:\:", ("udp", 7), "::"),
        ("udp:0", ("udp", 0), ""),
        ("ssl:7:key.pem:cert.pem", ("tcp", 7), ""),
        (r"ssl:7:interface=\:\:", ("tcp", 7), "::"),
        ("tls:/certs", ("tcp", 443), "::"),
        (r"tls:/certs:7:5:0.0.0.0", ("tcp", 7), "0.0.0.0"),
        ("haproxy:tcp:7", ("tcp", 7), ""),
        ("haproxy:TCP6:7", ("tcp", 7), "::"),
    ],
)
def test_a_place(text: str, port: tuple[str, int], interface: str) -> None:
    assert _place(text) == IpPlace(port, interface, None)


@pytest.mark.parametrize(
    "text",
    [
        *("unix:/run/x", "unixgram:7", "systemd:index=0", "haproxy:unix:/run/x", "other:7"),
        *("tcp:x", "tcp:interface=127.0.0.1", "ssl:-7", "haproxy:name=x"),
    ],
)
def test_no_place(text: str) -> None:
    assert _place(text) is None


@pytest.mark.parametrize(
    ("text", "may"),
    [
        ("tcp6:7", True),
        (r"tcp:7:interface=0\:\:0", True),
        (r"tcp:7:interface=\:\:1", False),
        (r"tcp:7:interface=\:\:x", False),
        ("tcp:7", False),
        ("tcp6:0", False),
        ("tcp6:7:ipv6only=no", False),
        ("tcp6:7:ipv6only=yes", False),
        (r"udp:7:\:\:", True),
    ],
)
def test_which_may_serve_both_families(text: str, may: bool) -> None:
    place = _place(text)
    assert place is not None
    assert place.may_serve_both == may
