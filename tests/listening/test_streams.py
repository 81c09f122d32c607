from __future__ import annotations

import os
from typing import Any

import pytest
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock

from sockservices.errors import DescriptionError
from sockservices.listening import Listening, StreamListener, listener
from sockservices.listening.streams import UnixServerEndpoint
from sockservices.transports import Access
from tests.fakes import result_of


def _listening(description: str, **defaults: Any) -> MemoryReactorClock:
    reactor = MemoryReactorClock()
    found = listener(reactor, description, Listening(**defaults))
    assert isinstance(found, StreamListener)
    assert len(result_of(found.endpoint.listen(Factory()))) == 1
    return reactor


@pytest.mark.parametrize(
    ("description", "port", "backlog", "interface"),
    [
        ("tcp:7", 7, 65535, ""),
        ("TCP:port=7", 7, 65535, ""),
        ("tcp:7:127.0.0.1:5", 7, 5, "127.0.0.1"),
        (r"tcp:7:interface=\:\:1", 7, 65535, "::1"),
        ("tcp:7:backlog=9", 7, 9, ""),
        ("tcp6:7", 7, 65535, "::"),
        (r"tcp6:7:5:\:\:1", 7, 5, "::1"),
        ("haproxy:tcp:7", 7, 65535, ""),
        ("haproxy:tcp:7:backlog=3", 7, 3, ""),
        ("haproxy:tcp:7:127.0.0.1:3", 7, 3, "127.0.0.1"),
        ("haproxy:tcp6:7:3", 7, 3, "::"),
    ],
)
def test_tcp(description: str, port: int, backlog: int, interface: str) -> None:
    [server] = _listening(description).tcpServers
    assert (server[0], server[2], server[3]) == (port, backlog, interface)


@pytest.mark.parametrize(
    ("description", "backlog", "mode", "lockfile"),
    [
        ("unix:/run/x", 65535, 0o600, False),
        ("unix:/run/x:660:5:yes", 5, 0o660, True),
        ("unix:address=/run/x:mode=0:lockfile=0", 65535, 0, False),
        ("unix:/run/x:lockfile=1:backlog=2", 2, 0o600, True),
    ],
)
def test_unix(description: str, backlog: int, mode: int, lockfile: bool) -> None:
    reactor = MemoryReactorClock()
    assert listener(reactor, description, Listening()) == StreamListener(
        description,
        UnixServerEndpoint(reactor, b"/run/x", backlog, Access(mode), lockfile),
        is_unix=True,
        makes_file=True,
    )


def test_an_abstract_unix_name() -> None:
    found = listener(MemoryReactorClock(), r"unix:abstract=a\:b\=c:backlog=7", Listening())
    assert (found.endpoint.address, found.endpoint.backlog) == (b"\0a:b=c", 7)
    assert found.is_a("Unix stream")


def test_a_unix_path_of_bytes_that_are_no_text() -> None:
    found = listener(MemoryReactorClock(), os.fsdecode(b"unix:/run/\xff"), Listening())
    assert found.endpoint.address == b"/run/\xff"


@pytest.mark.parametrize("length", [107, 108])
def test_a_unix_path_has_a_limit(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sockservices.listening.descriptions.PATH_LIMIT", 107)
    description = "unix:/" + "x" * (length - 1)
    if length <= 107:
        listener(MemoryReactorClock(), description, Listening())
    else:
        with pytest.raises(
            DescriptionError, match="is 108 bytes long; the limit on this system is 107"
        ):
            listener(MemoryReactorClock(), description, Listening())


@pytest.mark.parametrize(
    ("description", "reason"),
    [
        ("nothing:7", "the type 'nothing' is unknown; there are .*tcp.*unix"),
        ("ssl:seven", "port: 'seven' is not a whole number"),
        ("ssl:privateKey=x", "has no port"),
        ("ssl:7:privateKey=/nowhere/key", "/nowhere/key: No such file or directory"),
        ("systemd:domain=INET:index=0", "no socket was passed to this process"),
        ("systemd:domain=NOTHING:index=0", "NOTHING"),
        ("haproxy:systemd:domain=INET:index=0", "no such file descriptor was inherited"),
        ("haproxy:udp:7", "in 'haproxy:udp:7'"),
        ("unix:/run/\0x", "contains a null byte"),
        ("unix:", "address: is empty"),
        ("unix:abstract=", "abstract: is empty"),
        ("unix:backlog=5", "needs either a path or abstract=NAME"),
        ("unix:/run/x:abstract=x", "needs either a path or abstract=NAME"),
        ("unix:abstract=x:mode=660", "mode: an abstract name has no file"),
        ("unix:abstract=x:lockfile=no", "lockfile: an abstract name has no file"),
        (f"unix:abstract={'x' * 108}", "name x+ is 108 bytes long; the limit on this system is"),
        ("unix:/run/x:mode=999", "mode: '999' is not a file mode"),
        ("unix:/run/x:lockfile=perhaps", "lockfile: 'perhaps' is neither yes nor no"),
    ],
)
def test_what_cannot_be_read_is_a_description_error(
    description: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(DescriptionError, match=reason) as caught:
        listener(MemoryReactorClock(), description, Listening())
    assert len(str(caught.value).splitlines()) == 1


def test_a_type_of_another_package_is_found_and_its_refusal_is_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found: list[Any] = []

    class Parser:
        prefix = "Foreign"

        def parseStreamServer(self, reactor: object, *args: str, **named: str) -> object:  # noqa: N802
            if args == ("bad",):
                raise RuntimeError("first\nsecond")
            found.append((args, named))
            return found

    for module in ("sockservices.listening.streams", "twisted.internet.endpoints"):
        monkeypatch.setattr(f"{module}.getPlugins", lambda _interface: [Parser()])
    with pytest.raises(DescriptionError, match=r"^in 'foreign:bad': first\\nsecond$"):
        listener(MemoryReactorClock(), "foreign:bad", Listening())
    assert listener(MemoryReactorClock(), "foreign:a:b=c", Listening()).endpoint is found
    assert found == [(("a",), {"b": "c"})]
