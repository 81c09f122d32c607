from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sockservices.transports import unsent as module
from sockservices.transports.unsent import UNSENT_BYTES, UNSENT_DATAGRAMS, Unsent


def _taken(unsent: Unsent, peer: str) -> list[bytes]:
    """Take out what waits for a peer."""
    found = []
    while (oldest := unsent.oldest(peer)) is not None:
        assert oldest[1] == peer
        found.append(oldest[0])
        unsent.remove_oldest(peer)
    return found


def test_each_peers_datagrams_stay_in_order() -> None:
    unsent = Unsent()
    for number in range(6):
        assert unsent.add(b"%d" % number, "ab"[number % 2]) == []
    assert (unsent.count, unsent.peers, "a" in unsent, "c" in unsent) == (
        6,
        ["a", "b"],
        True,
        False,
    )
    assert _taken(unsent, "b") == [b"1", b"3", b"5"]
    assert (unsent.count, unsent.peers) == (3, ["a"])
    assert _taken(unsent, "a") == [b"0", b"2", b"4"]
    assert (unsent.count, unsent.peers, unsent.oldest("a")) == (0, [], None)


def test_one_peer_alone_may_use_all_the_room() -> None:
    unsent = Unsent()
    assert [unsent.add(b"", "a") for _ in range(UNSENT_DATAGRAMS)] == [[]] * UNSENT_DATAGRAMS
    assert unsent.add(b"", "a") == ["a"]
    unsent = Unsent()
    half = bytes(UNSENT_BYTES // 2)
    assert [unsent.add(half, "a") for _ in range(3)] == [[], [], ["a"]]
    assert unsent.count == 2


def test_one_that_uses_most_makes_room_for_others() -> None:
    unsent = Unsent()
    for number in range(UNSENT_DATAGRAMS):
        unsent.add(b"%d" % number, "greedy")
    for number in range(10):
        assert unsent.add(b"%d" % number, "other") == ["greedy"]
    assert unsent.count == UNSENT_DATAGRAMS
    assert _taken(unsent, "other") == [b"%d" % number for number in range(10)]
    assert _taken(unsent, "greedy") == [b"%d" % each for each in range(UNSENT_DATAGRAMS - 10)]


def test_one_with_large_datagrams_makes_room_for_others() -> None:
    unsent = Unsent()
    for _ in range(16):
        unsent.add(bytes(UNSENT_BYTES // 16), "greedy")
    for _ in range(100):
        unsent.add(b"x", "other")
    assert len(_taken(unsent, "other")) == 100
    assert len(_taken(unsent, "greedy")) == 15


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9), st.booleans())),
)
def test_it_stays_within_its_limits_and_loses_nothing_untold(
    steps: list[tuple[str, int, bool]],
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "UNSENT_DATAGRAMS", 6)
        patch.setattr(module, "UNSENT_BYTES", 20)
        unsent = Unsent()
        waiting: Counter[str] = Counter()
        for peer, size, is_sent in steps:
            if is_sent and peer in unsent:
                unsent.remove_oldest(peer)
                waiting[peer] -= 1
            else:
                waiting[peer] += 1
                waiting.subtract(unsent.add(bytes(size), peer))
        left = {peer: _taken(unsent, peer) for peer in unsent.peers}
        assert {peer: len(each) for peer, each in left.items()} == dict(+waiting)
        assert sum(map(len, left.values())) <= 6
        assert sum(len(each) for queue in left.values() for each in queue) <= 20
        assert (unsent.count, unsent._size) == (0, 0)
