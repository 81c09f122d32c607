from __future__ import annotations

import ipaddress
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sockservices.connections.networks import Network, Networks, address, network

_V4 = st.builds(
    lambda number, length: ipaddress.ip_network((number, length), strict=False),
    st.integers(0, 2**32 - 1),
    st.integers(0, 32),
)
_V6 = st.builds(
    lambda number, length: ipaddress.ip_network((ipaddress.IPv6Address(number), length), False),
    st.integers(0, 2**128 - 1),
    st.integers(0, 128),
)


@given(st.lists(_V4 | _V6, max_size=20), st.data())
def test_the_most_specific_one_decides(networks: list[Network], data: st.DataObject) -> None:
    inside = [st.just(each.network_address) for each in networks]
    found = data.draw(st.one_of(st.ip_addresses(), *inside))
    lengths = [each.prefixlen for each in networks if found in each]
    assert Networks(networks).specificity(found) == max(lengths, default=-1)


def test_none_is_none() -> None:
    assert not Networks([])
    assert Networks([network("192.0.2.1")])


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("192.0.2.0/24", "192.0.2.0/24"),
        (" 192.0.2.1 ", "192.0.2.1/32"),
        ("2001:db8::/32", "2001:db8::/32"),
        ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
        ("::ffff:192.0.2.1", "192.0.2.1/32"),
    ],
)
def test_a_network_is_read(text: str, shown: str) -> None:
    assert str(network(text)) == shown


@pytest.mark.parametrize("text", ["", "here", "192.0.2.1/24", "192.0.2.0/33", "192.0.2"])
def test_another_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a network, such as 192\.0\.2\.0/24 or") as raised:
        network(text)
    assert repr(text) in str(raised.value)


@pytest.mark.parametrize(
    ("host", "found"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::1"),
        ("/run/socket", "None"),
    ],
)
def test_an_address_is_read(host: str, found: str) -> None:
    assert str(address(host)) == found


def _read(path: Path) -> Networks:
    found = Networks()
    for _ in found.read(str(path)):
        pass
    return found


def _specificity(networks: Networks, *hosts: str) -> list[int]:
    return [networks.specificity(ipaddress.ip_address(host)) for host in hosts]


def test_a_file_has_one_on_each_line(tmp_path: Path) -> None:
    path = tmp_path / "networks"
    path.write_text("# ours\n192.0.2.0/24  # the office\n\n2001:db8::/32\r\n198.51.100.1")
    found = _read(path)
    assert _specificity(found, "192.0.2.9", "2001:db8::1", "198.51.100.1") == [24, 32, 32]
    assert _specificity(found, "192.0.3.0", "2001:db9::", "198.51.100.0") == [-1, -1, -1]


_TEXTS = (
    (_V4 | _V6).map(str)
    | st.builds("{}/{}".format, st.ip_addresses(), st.integers(0, 130))
    | st.builds("{}/{}".format, st.ip_addresses(v=4), st.ip_addresses(v=4))
    | st.text("0123456789./:af", max_size=20)
    | st.sampled_from(["1.2.3.4/032", "1.2.3.4/+1", "01.2.3.4", "1.2.3.4/", "1.2.3", "1.2.3.٤"])
    | st.sampled_from(["::ffff:192.0.2.0/120", "::ffff:192.0.2.1", "fe80::1%eth0", "1.2.3.4\0"])
)


@given(_TEXTS)
def test_a_line_of_a_file_means_what_it_means_as_an_option(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "line"
    path.write_text(text)
    try:
        expected = Networks([network(text)] if text else [])
    except ValueError:
        with pytest.raises(ValueError, match=r"line, line 1: .* is not a network"):
            _read(path)
    else:
        assert vars(_read(path)) == vars(expected)


def test_a_large_file_is_read_in_steps(tmp_path: Path) -> None:
    path = tmp_path / "networks"
    path.write_text("".join(f"10.{number >> 8}.{number & 255}.0/24\n" for number in range(1 << 16)))
    steps = sum(1 for _ in Networks().read(str(path)))
    assert steps >= 100


def test_a_file_that_cannot_be_used_says_where(tmp_path: Path) -> None:
    path = tmp_path / "networks"
    with pytest.raises(ValueError, match="networks: No such file or directory"):
        _read(path)
    path.write_text("192.0.2.0/24\nthere\n")
    with pytest.raises(ValueError, match="networks, line 2: 'there' is not a network"):
        _read(path)


def test_a_pipe_is_no_file_of_networks(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="pipe is not a regular file"):
        _read(tmp_path / "pipe")
