"""Services on network links of their own: multicast, broadcast, and link-local addresses.

The service and its peers are in two network namespaces with two links between them. Both links
have the same link-local addresses, so that only zones tell them apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.system.processes import BIN, TWISTD, Running, as_root, needs, run

pytestmark = [as_root, needs("nsenter"), needs("ip")]


def _in(holder: Running) -> tuple[str, ...]:
    return ("nsenter", "--net", f"--target={holder.process.pid}")


@contextmanager
def _namespace(folder: Path) -> Iterator[Running]:
    script = "ip link set lo up && echo up && exec cat"
    with Running(["unshare", "--net", "sh", "-c", script], folder, stdin=-1) as holder:
        holder.out.wait_for("up")
        yield holder


class Links:
    """Two namespaces, ``here`` for services and ``there`` for peers, with the links v and w."""

    def __init__(self, folder: Path, here: Running, there: Running) -> None:
        self.folder = folder
        self.here = here
        self.there = there
        for number, link in enumerate("vw", 1):
            peer = ("peer", "name", f"{link}1", "netns", str(there.process.pid))
            self._ip(here, "link", "add", f"{link}0", "type", "veth", *peer)
            for holder, end in ((here, 0), (there, 1)):
                device = f"{link}{end}"
                address = f"10.9.{number}.{end + 1}/24"
                self._ip(holder, "address", "add", address, "broadcast", "+", "dev", device)
                self._ip(holder, "link", "set", device, "addrgenmode", "none", "up")
                self._ip(holder, "address", "add", f"fe80::{end + 1}/64", "dev", device, "nodad")

    def _ip(self, holder: Running, *arguments: str) -> None:
        done = run(*_in(holder), "ip", *arguments, cwd=self.folder)
        assert done.returncode == 0, done.stderr

    def route(self, group: str, link: str) -> None:
        """Have peers send to a group by one of the links."""
        self._ip(self.there, "route", "replace", group, "dev", f"{link}1")

    @contextmanager
    def service(self, *command: str) -> Iterator[Running]:
        with Running([*_in(self.here), *TWISTD, "--pidfile=", *command], self.folder) as service:
            service.err.wait_for("listening on")
            yield service
            assert service.stop() == 0
            assert "Traceback" not in service.err.whole()

    def ask(self, *command: str, data: bytes | None = None) -> bytes:
        """Run ``sockservices`` as a peer."""
        done = run(*_in(self.there), BIN / "sockservices", *command, cwd=self.folder, input=data)
        assert (done.returncode, done.stderr) == (0, b""), command
        return done.stdout

    def send(self, where: str, text: str, *options: str) -> bytes:
        return self.ask("send", where, text, *options)


@pytest.fixture
def links(tmp_path: Path) -> Iterator[Links]:
    with _namespace(tmp_path) as here, _namespace(tmp_path) as there:
        yield Links(tmp_path, here, there)


def test_a_link_local_peer_is_answered_on_its_link(links: Links) -> None:
    with links.service("sock-echo", r"--listen=udp:4700:interface=\:\:"):
        for link in "vwvw":
            assert links.send(rf"udp:fe80\:\:1%{link}1:4700", link, "--wait=30") == b"%c\n" % ord(
                link
            )


@pytest.mark.parametrize("link", ["v", "w"])
def test_a_service_listens_on_a_link_local_address(links: Links, link: str) -> None:
    address = f"fe80::1%{link}0"
    quoted = address.replace(":", r"\:")
    options = (f"--listen=udp:4700:interface={quoted}", f"--listen=tcp:4700:interface={quoted}")
    with links.service("sock-echo", *options, "--port=4701", f"--interface={address}") as echo:
        echo.err.wait_for(
            rf"listening on tcp:\[fe80::1%{link}0\]:4701 udp:\[fe80::1%{link}0\]:4700 "
            rf"tcp:\[fe80::1%{link}0\]:4700\n"
        )
        there = rf"fe80\:\:1%{link}1"
        assert links.send(f"udp:{there}:4700", "hello", "--wait=30") == b"hello\n"
        for port in (4700, 4701):
            assert links.ask("connect", f"tcp:{there}:{port}", data=b"hello") == b"hello"


@pytest.mark.parametrize(
    ("listen", "group"),
    [
        ("udp:5353:join=224.0.0.251%w0", "224.0.0.251"),
        (r"udp:5353:interface=\:\::join=ff02\:\:fb%w0", r"ff02\:\:fb%{}1"),
        ("udp:5353:join=239.1.1.1%w0,224.0.0.251%v0", "239.1.1.1"),
        ("udp:5353:join=224.0.0.251%w0:interface=224.0.0.251", "224.0.0.251"),
    ],
)
def test_a_service_joins_a_group_on_one_link(links: Links, listen: str, group: str) -> None:
    with links.service("sock-hexdump", f"--listen={listen}") as first:
        with links.service("sock-hexdump", f"--listen={listen}") as second:  # on the same port
            for link in "vw":
                links.route("224.0.0.0/4", link)
                links.send(f"udp:{group.format(link)}:5353", link)
            for each in (first, second):
                each.out.wait_for("77 \n")
        assert first.out.text == "77 \n"


def test_the_groups_of_others_are_not_received(links: Links) -> None:
    """By default, Linux delivers them to every socket with their port: IP_MULTICAST_ALL, ip(7)."""
    joined = ("239.1.1.1%v0", "239.1.1.2%v0")
    listen = [f"--listen=udp:5353:join={each}" for each in joined]
    links.route("224.0.0.0/4", "v")
    with links.service("sock-hexdump", listen[0]) as one:
        with links.service("sock-hexdump", listen[1]) as two:
            links.send("udp:239.1.1.2:5353", "2")
            links.send("udp:239.1.1.1:5353", "1")
            one.out.wait_for("31 \n")
            two.out.wait_for("32 \n")
        assert two.out.whole() == "32 \n"
        assert one.out.text == "31 \n"


@pytest.mark.parametrize(
    ("listen", "where"),
    [
        ("udp:4700:join=224.0.0.251%v0", "udp:224.0.0.251:4700"),
        (r"udp:4700:interface=\:\::join=ff02\:\:fb%v0", r"udp:ff02\:\:fb%v1:4700"),
        ("udp:4700", "udp:10.9.1.255:4700"),
        ("udp:4700", "udp:255.255.255.255:4700"),
    ],
)
def test_who_asks_all_is_answered(links: Links, listen: str, where: str) -> None:
    for group in ("224.0.0.0/4", "255.255.255.255/32"):
        links.route(group, "v")
    with links.service("sock-echo", f"--listen={listen}"):
        assert links.send(where, "who is there?", "--wait=30") == b"who is there?\n"


@pytest.mark.parametrize(
    ("listen", "reason"),
    [
        (
            "udp:5353:join=224.0.0.251",
            "no route leads to it; name the interface, as in 224.0.0.251%eth0",
        ),
        ("udp:5353:join=224.0.0.251%eth7", "this machine has no such interface"),
        ("udp:5353:join=224.0.0.251%77", "this machine has no such interface"),
        ("udp:5353:join=224.0.0.251%v0,224.0.0.251%v0", "it is given twice"),
    ],
)
def test_a_group_that_cannot_be_joined_is_one_line(links: Links, listen: str, reason: str) -> None:
    command = ("sock-echo", f"--listen={listen}")
    done = run(*_in(links.here), *TWISTD, "--pidfile=", *command, cwd=links.folder)
    group: Sequence[str] = listen.rpartition("join=")[2].split(",")
    said = f"twistd: sock-echo: cannot listen on {listen}: cannot join {group[0]}: {reason}"
    assert said in done.stderr.decode().splitlines()
    assert done.returncode == 1


def test_reloading_keeps_the_groups(links: Links) -> None:
    pytest.importorskip("watchfiles")
    listen = "--listen=udp:5353:join=224.0.0.251%v0"
    links.route("224.0.0.0/4", "v")
    with links.service("sock-echo", listen, "--reload") as echo:
        echo.err.wait_for("the code is loaded")
        assert links.send("udp:224.0.0.251:5353", "hello", "--wait=30") == b"hello\n"
