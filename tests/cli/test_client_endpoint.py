from __future__ import annotations

import sys

import click
import pytest
from twisted.internet.endpoints import TCP4ClientEndpoint, UNIXClientEndpoint
from twisted.internet.testing import MemoryReactorClock

from sockservices.cli.client_endpoint import client_endpoint
from sockservices.cli.errors import CouldNot
from sockservices.requirement import requirement


@pytest.mark.parametrize(
    ("description", "host"),
    [
        ("tcp:127.0.0.1:7", "127.0.0.1"),
        ("tcp:host=localhost:port=7", "localhost"),
        ("tcp:[::1]:7", "::1"),
        (r"tcp:\:\:1:7", "::1"),
    ],
)
def test_a_host_and_a_port_are_connected_to(description: str, host: str) -> None:
    endpoint = client_endpoint(MemoryReactorClock(), description)
    assert isinstance(endpoint, TCP4ClientEndpoint)
    assert (endpoint._host, endpoint._port) == (host, 7)


@pytest.mark.parametrize(
    ("description", "path"), [("unix:/run/x", "/run/x"), ("unix:abstract=x", "\0x")]
)
def test_so_is_a_unix_socket(description: str, path: str) -> None:
    endpoint = client_endpoint(MemoryReactorClock(), description)
    assert isinstance(endpoint, UNIXClientEndpoint)
    assert endpoint._path == path


@pytest.mark.parametrize(
    ("description", "line"),
    [
        ("tcp:7", "'tcp:7' has no host: write tcp:127.0.0.1:7"),
        ("tls:7", "'tls:7' has no host: write tls:127.0.0.1:7"),
        ("tcp:", "'tcp:' has no host: write tcp:HOST:PORT"),
        ("tcp:port=7", "'tcp:port=7' has no host: write tcp:HOST:PORT"),
        ("tcp:::1:7", "'tcp:::1:7' has no host; an IPv6 address needs brackets: tcp:[::1]:7"),
        ("tcp:localhost", "'tcp:localhost' has no port: write tcp:localhost:PORT"),
        ("tls:[::1]", "'tls:[::1]' has no port: write tls:[::1]:PORT"),
        ("tcp:x:y", "in 'tcp:x:y', port: 'y' is not a whole number from 0 to 65535"),
        ("tcp:x:65536", "in 'tcp:x:65536', port: 65536 is not a whole number from 0 to 65535"),
        ("localhost:7", "in 'localhost:7', the type 'localhost' is unknown; write tcp:localhost:7"),
        ("[::1]:7", "in '[::1]:7', the type '::1' is unknown; write tcp:[::1]:7"),
        ("udp:localhost:7", "'udp:localhost:7' is for datagrams: use sockservices send"),
        ("unixgram:x", "'unixgram:x' is for datagrams: use sockservices send"),
        ("unix:", "'unix:' has no path"),
        ("7", "'7' is not an endpoint description; expected something like tcp:127.0.0.1:7 or"),
        ("foo:bar", "'foo:bar': Unknown endpoint type: 'foo'; expected something like tcp:127."),
    ],
)
def test_what_is_wrong_is_told_with_what_would_be_right(description: str, line: str) -> None:
    with pytest.raises(click.BadParameter) as caught:
        client_endpoint(MemoryReactorClock(), description)
    assert caught.value.message.startswith(line)


@pytest.mark.parametrize("prefix", ["ssl", "tls"])
def test_without_its_extra_tls_is_told_how_to_install_it(
    prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "twisted.internet.ssl", raising=False)
    monkeypatch.setitem(sys.modules, "OpenSSL", None)
    description = f"{prefix}:localhost:7"
    with pytest.raises(CouldNot) as caught:
        client_endpoint(MemoryReactorClock(), description)
    install = f"pip install {requirement('tls')}"
    assert caught.value.message == f"{description} needs OpenSSL: {install}"
