"""Scripts: what a protocol and its peer do, step by step, drawn at random.

An operation of the protocol is a tuple, its name first; ``scripted_protocol`` does them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from hypothesis import strategies as st

Operation: TypeAlias = tuple[Any, ...]
Operations: TypeAlias = tuple[Operation, ...]

KIB = 1024


@dataclass(frozen=True)
class Step:
    """One step of the peer, and what the protocol does when that has reached it.

    ``kind``: ``send`` (``size`` bytes; the operations run when the last of them is received),
    ``poke`` (no peer: the operations run in a call later), ``read`` (``size`` bytes), ``drain``
    (all there is), ``shut`` (half-close), ``close``, ``reset``.
    """

    kind: str
    size: int = 0
    operations: Operations = ()


@dataclass(frozen=True)
class Script:
    client: bool = False
    half_closeable: bool = False
    made: Operations = ()
    steps: tuple[Step, ...] = ()
    read_lost: Operations = ()
    write_lost: Operations = ()
    lost: Operations = ()
    drain_at_end: bool = True
    # Whether the peer never reads.
    deaf: bool = False


sizes = st.sampled_from([0, 1, 10, 1000, 64 * KIB, 64 * KIB + 1, 1 << 20])
chunks = st.sampled_from([1, 1000, 30 * KIB, 64 * KIB, 100 * KIB])


def simple_operations() -> st.SearchStrategy[Operation]:
    writes: list[st.SearchStrategy[Operation]] = [
        st.tuples(st.just("write"), sizes),
        st.tuples(st.just("write"), st.sampled_from([1, 10])),
        st.tuples(st.just("sequence"), st.lists(sizes, max_size=3).map(tuple)),
    ]
    plain: list[st.SearchStrategy[Operation]] = [
        st.just((name,))
        for name in ("pause", "resume", "lose_write", "lose", "abort", "unregister", "log")
    ] + [st.tuples(st.just("raise"), st.sampled_from(["ScriptedError", "ConnectionDone"]))]
    producers: list[st.SearchStrategy[Operation]] = [
        # How much at a time, how often, whether it unregisters itself, whether it raises instead.
        st.tuples(
            st.sampled_from(["push", "pull"]),
            chunks,
            st.integers(0, 6),
            st.booleans(),
            st.sampled_from([False, False, False, True]),
        )
    ]
    return st.one_of(*writes, *writes, *plain, *producers)


def operations() -> st.SearchStrategy[Operations]:
    simple = simple_operations()
    later = st.tuples(st.just("later"), st.lists(simple, max_size=2).map(tuple))
    nested = st.tuples(st.just("later"), st.lists(simple | later, max_size=2).map(tuple))
    return st.lists(simple | simple | later | nested, max_size=4).map(tuple)


def steps() -> st.SearchStrategy[Step]:
    return st.one_of(
        st.builds(
            Step,
            st.just("send"),
            st.sampled_from([1, 10, 1000, 64 * KIB, 70 * KIB, 200 * KIB]),
            operations(),
        ),
        st.builds(Step, st.just("poke"), st.just(0), operations()),
        st.builds(Step, st.just("read"), st.sampled_from([1, 1000, 64 * KIB])),
        st.builds(Step, st.sampled_from(["drain", "drain", "shut", "close", "reset"])),
    )


def scripts() -> st.SearchStrategy[Script]:
    few = st.just(()) | operations()
    return st.builds(
        Script,
        client=st.booleans(),
        half_closeable=st.booleans(),
        made=few,
        steps=st.lists(steps(), max_size=5).map(tuple),
        read_lost=few,
        write_lost=few,
        lost=few,
        drain_at_end=st.booleans(),
        deaf=st.sampled_from([False, False, False, True]),
    )
