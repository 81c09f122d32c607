from __future__ import annotations

import socket
from contextlib import closing

import pytest

from sockservices.transports.multicast import Group, JoinError, join
from sockservices.transports.udp import UdpPort
from tests.fakes import ManualReactor
from tests.transports.datagrams import Recorder, listening

_LO = socket.if_nametoindex("lo")


@pytest.mark.parametrize(
    ("text", "group", "is_ipv6"),
    [
        ("224.0.0.251", Group("224.0.0.251"), False),
        ("239.1.2.3%lo", Group("239.1.2.3", "lo"), False),
        ("ff02::fb%1", Group("ff02::fb", "1"), True),
    ],
)
def test_a_group_is_read_and_written(text: str, group: Group, is_ipv6: bool) -> None:
    assert Group.parse(text) == group
    assert str(group) == text
    assert group.is_ipv6 is is_ipv6


@pytest.mark.parametrize("text", ["", "192.0.2.1", "fe80::1%lo", "lo", "224.0.0.251%", "224.0.0"])
def test_what_is_no_group_is_told(text: str) -> None:
    with pytest.raises(ValueError, match="is not a multicast group, such as"):
        Group.parse(text)


# IPv6 groups do not work on the loopback interface: tests/system/test_links.py has them.


def _sent(address: str, number: int, data: bytes) -> None:
    """Send by the loopback interface."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sending:
        here = socket.inet_aton("127.0.0.1")
        sending.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, here)
        sending.sendto(data, (address, number))


@pytest.mark.parametrize("interface", ["", "239.255.77.2"])
def test_what_is_sent_to_a_group_arrives_at_each_port_that_has_joined_it(interface: str) -> None:
    groups = [Group("239.255.77.1", "lo"), Group("239.255.77.2", "lo")]
    one, two, stranger = Recorder(), Recorder(), Recorder()
    reactor = ManualReactor()
    first = UdpPort(0, one, interface, reactor, groups=groups)
    with listening(first, reactor):
        number = first.getHost().port
        second = UdpPort(number, two, interface, reactor, groups=groups)
        third = UdpPort(number, stranger, "", reactor, groups=groups[:1])
        with listening(second, reactor), listening(third, reactor):
            _sent("239.255.77.2", number, b"to all")
            for port in (first, second, third):
                port.doRead()
    assert one.datagrams == two.datagrams == [b"to all"]
    # By default, Linux delivers what any socket has joined: IP_MULTICAST_ALL in ip(7).
    assert stranger.datagrams == []


def test_a_port_that_joins_sends_by_the_interface_that_it_names() -> None:
    recorder, reactor = Recorder(), ManualReactor()
    port = UdpPort(0, recorder, "", reactor, groups=[Group("239.255.77.1", "lo")])
    with listening(port, reactor):
        port.write(b"to all", ("239.255.77.1", port.getHost().port))
        port.doRead()
    assert recorder.datagrams == [b"to all"]
    port = UdpPort(0, recorder, "::", reactor, groups=[Group("ff12::77", "lo")])
    with listening(port, reactor):
        option = (socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF)
        assert port.socket.getsockopt(*option) == _LO


@pytest.mark.parametrize(
    ("groups", "reason"),
    [
        (["239.1.1.1%no-such-one"], "cannot join 239.1.1.1%no-such-one: this machine has no such"),
        (["239.1.1.1%2147483647"], "cannot join 239.1.1.1%2147483647: this machine has no such"),
        (["ff12::7%lo", "ff12::7%lo"], "cannot join ff12::7%lo: it is given twice"),
    ],
)
def test_one_that_cannot_join_says_why_and_leaves_nothing_open(
    groups: list[str], reason: str
) -> None:
    interface = "::" if groups[0].startswith("ff") else ""
    joined = [Group.parse(each) for each in groups]
    port = UdpPort(0, Recorder(), interface, ManualReactor(), groups=joined)
    with pytest.raises(JoinError) as caught:
        port.startListening()
    assert str(caught.value).startswith(reason)
    assert port.socket.fileno() < 0


def test_more_groups_than_linux_allows_are_told() -> None:
    groups = [Group(f"239.255.78.{number}", "lo") for number in range(256)]
    with (
        closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as made,
        pytest.raises(JoinError, match=r"too many groups \(on Linux, net\.ipv4\.igmp_max_"),
    ):
        join(made, groups)
