from __future__ import annotations

from sockservices.transports.own_addresses import OwnAddresses


def test_a_udp_address_is_ours_as_long_as_a_listener_has_it() -> None:
    own = OwnAddresses()
    assert not own.has_udp("127.0.0.1", 7000)
    own.add_udp("127.0.0.1", 7000)
    own.add_udp("127.0.0.1", 7000)  # two sockets with SO_REUSEPORT
    assert own.has_udp("127.0.0.1", 7000)
    assert own.has_udp("::ffff:127.0.0.1", 7000)
    assert not own.has_udp("127.0.0.2", 7000)
    assert not own.has_udp("127.0.0.1", 7001)
    own.remove_udp("127.0.0.1", 7000)
    assert own.has_udp("127.0.0.1", 7000)
    own.remove_udp("127.0.0.1", 7000)
    assert not own.has_udp("127.0.0.1", 7000)


def test_at_all_addresses_those_of_this_machine_are_ours() -> None:
    for everywhere in ("0.0.0.0", "::"):
        own = OwnAddresses()
        own.add_udp(everywhere, 7000)
        assert own.has_udp("127.0.0.2", 7000)
        assert own.has_udp("::ffff:127.0.0.2", 7000)
        assert not own.has_udp("192.0.2.1", 7000)


def test_an_address_is_the_same_with_its_link_and_without() -> None:
    own = OwnAddresses()
    own.add_udp("fe80::1", 7000)
    assert own.has_udp("fe80::1%eth0", 7000)
    own.add_udp("fe80::2%4", 7000)
    assert own.has_udp("fe80::2%eth0", 7000)


def test_a_unix_socket_is_ours_by_its_name_or_its_file() -> None:
    own = OwnAddresses()
    for identity in (b"\0name", (1, 2)):
        assert not own.has_unix(identity)
        own.add_unix(identity)
        assert own.has_unix(identity)
        own.remove_unix(identity)
        assert not own.has_unix(identity)
