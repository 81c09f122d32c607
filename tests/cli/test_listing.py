from __future__ import annotations

import pytest

from sockservices.cli import listing
from sockservices.cli.errors import CouldNot
from sockservices.cli.listing import found, list_services
from sockservices.twistd.declaration import LoadError, SocketServiceMaker
from tests.cli.running import run

HELLO = SocketServiceMaker(
    "hello", "Says hello.", stream="sockservices.services.hello.HelloFactory"
)
BOTH = SocketServiceMaker(
    "both",
    "Says it back.",
    stream="sockservices.services.echo.EchoFactory",
    datagram="sockservices.services.echo.EchoFactory",
    first="datagram",
)
NOWHERE = SocketServiceMaker("nowhere", "Is not there.", stream="no_such_module_here.Factory")
INSTALLED = [
    ("both", BOTH),
    ("hello", HELLO),
    ("nowhere", NOWHERE),
    ("sock broken", LoadError("cannot import broken")),
    ("sock other", SocketServiceMaker("other", "Of another package.", stream=HELLO.stream)),
]


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "installed", lambda: iter(INSTALLED))


def test_each_service_is_listed_with_its_kinds_and_its_own_options() -> None:
    status, printed, said = run(list_services)
    assert (status, said) == (0, "")
    lines = printed.splitlines()
    titles = ["both  (datagram, stream)", "hello  (stream)", "sock other  (stream)"]
    assert [each for each in lines if each in titles] == titles
    hello = lines[lines.index("hello  (stream)") :]
    assert hello[1].strip() == "Says hello."
    assert hello[2].startswith("      --message")
    assert max(len(each) for each in lines if each.startswith("      -")) <= 80
    assert "--max-connections" not in printed


def test_one_that_is_broken_says_so_and_hides_no_other() -> None:
    _status, printed, _said = run(list_services)
    broken = [each for each in printed.splitlines() if "broken:" in each]
    assert len(broken) == 2
    assert "no_such_module_here" in broken[0]
    assert "cannot import broken" in broken[1]
    assert "sock other" in printed


def test_of_one_service_all_options_are_listed() -> None:
    for name in ("sock other", "other"):
        status, printed, _said = run(list_services, name)
        assert status == 0
        assert printed.startswith(f"{name}  (stream)\n    Of another package.\n")
        for option in ("--message", "--port", "--max-connections", "--tls-cert"):
            assert option in printed


def test_a_service_is_found_by_its_command_or_its_entry_point() -> None:
    assert found("hello") is HELLO
    assert found("sock hello") is HELLO
    assert found("sock other") is found("other")


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("nothing", "'nothing'.*both, hello, nowhere, broken, other$"),
        ("no\nthing", r"no\\+nthing"),
        ("helo", r"; did you mean hello\?$"),
    ],
)
def test_one_that_is_not_there_is_told_with_those_that_are(name: str, wanted: str) -> None:
    with pytest.raises(CouldNot, match=wanted):
        found(name)
    assert run(list_services, name)[:2] == (1, "")


def test_of_one_that_is_broken_it_is_told_why() -> None:
    with pytest.raises(CouldNot, match="cannot import broken"):
        found("broken")
