"""The same script on Twisted's transports and on eager ones: the same bytes, the same callbacks."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, TypeAlias

import pytest
from hypothesis import given, settings

from tests.transports import reactors
from tests.transports.lockstep import Run, play
from tests.transports.scripts import Script, Step, scripts

Kind: TypeAlias = Callable[[], AbstractContextManager[tuple[Any, Any]]]


def compare(script: Script, stock: Kind, eager: Kind, family: int) -> None:
    runs = play(script, stock, family), play(script, eager, family)
    # A producer that writes until it is paused is paused when it has written so much: what Twisted
    # keeps, and as much that the kernel has taken. (Twisted pauses none of whom it drops all.)
    assert runs[1].record.unpaused <= max(2 * 2**16, runs[0].record.unpaused)
    one, other = (seen(run, runs) for run in runs)
    assert other == one
    got, wanted = (bytes(run.peer.got) for run in reversed(runs))
    assert got.startswith(wanted) or wanted.startswith(got)


def seen(run: Run, runs: tuple[Run, Run]) -> dict[str, Any]:
    """What must be the same of these runs of one script."""
    record = run.record
    events = record.events
    ends = []
    if any(each.record.into_nothing for each in runs):
        # The peer has closed, and the first send(2) that finds this succeeds. Twisted sends once
        # for several writes and eager transports once for each: whether the end is noticed by a
        # later send depends on how many there are, for Twisted's as well (write in two turns).
        ends.append(next(i for i, event in enumerate(events) if event in ENDS))
    bulks = [each.record.bulk for each in runs if each.record.bulk is not None]
    if bulks and run.script.deaf:
        # How much a kernel takes that nobody reads depends on the pieces that it comes in.
        ends.append(min(bulks))
    if ends:
        events = events[: min(ends)]
    elif bulks:
        # Twisted sends at most 128 KiB in a turn; how many turns it takes is not compared.
        events = [event for event in events if event[0] != "later"]
    result: dict[str, Any] = {"events": events}
    if not ends:
        # While a client connects, Twisted's prefix is "Uninitialized", also in connectionMade. An
        # eager reactor looks it up when something is logged, and then it is the protocol's.
        result["logs"] = [
            (what, "CLIENT" if prefix in ("Uninitialized", CLIENT) else prefix)
            for what, prefix in record.logs
        ]
    if not any(each.record.cut for each in runs) and not (bulks and run.script.deaf):
        result["bytes"] = bytes(run.peer.got)
        result["end"] = run.peer.end
    return result


CLIENT = "ScriptedProtocol,client"

ENDS = [("step", kind) for kind in ("close", "reset", "end")]

# Whatever the reactor, epoll(7) watches eager connections.
PAIRS = [
    pytest.param(reactors.epoll_stock, reactors.epoll_eager, id="epoll"),
    pytest.param(reactors.epoll_stock, reactors.eager, id="eager"),
    pytest.param(reactors.epoll_stock, reactors.select_eager, id="select"),
]


FAMILIES = [
    pytest.param(socket.AF_INET, id="tcp"),
    pytest.param(socket.AF_UNIX, id="unix"),
]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("stock", "eager"), PAIRS)
def test_a_script_has_the_same_effects(stock: Kind, eager: Kind, family: int) -> None:
    # Not around this function: pytest-twisted does not do with given() and parametrize() together.
    @settings(max_examples=100, derandomize=True)
    @given(script=scripts())
    def has_the_same_effects(script: Script) -> None:
        compare(script, stock, eager, family)

    has_the_same_effects()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("stock", "eager"), PAIRS)
def test_beside_a_busy_writer_it_has_the_same_effects(
    stock: Kind, eager: Kind, family: int
) -> None:
    """What is tried and what is watched is then found in one turn."""
    kinds = reactors.beside_a_busy_writer(stock), reactors.beside_a_busy_writer(eager)

    @settings(max_examples=30, derandomize=True)
    @given(script=scripts())
    def has_the_same_effects(script: Script) -> None:
        compare(script, *kinds, family)

    has_the_same_effects()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("stock", "eager"), PAIRS)
def test_a_producer_that_writes_to_a_peer_that_has_gone_is_paused(
    stock: Kind, eager: Kind, family: int
) -> None:
    """One that writes until it is paused would otherwise never return to the reactor."""
    endless = Script(
        client=True, half_closeable=True, read_lost=(("push", 30_720, 100, False, False),)
    )
    compare(endless, stock, eager, family)


@pytest.mark.skipif(not os.path.exists("/proc/net/if_inet6"), reason="needs IPv6")
@settings(max_examples=15, derandomize=True)
@given(script=scripts())
def test_over_ipv6(script: Script) -> None:
    compare(script, reactors.epoll_stock, reactors.eager, socket.AF_INET6)


ORDINARY = Script(
    half_closeable=True,
    made=(("write", 10),),
    steps=(
        Step("send", 10, (("write", 1000), ("write", 65536), ("log",))),
        Step("drain"),
        Step("send", 200_000, (("push", 30_000, 5, True, False),)),
        Step("shut"),
    ),
    read_lost=(("pull", 1000, 3, True, False), ("lose",)),
)


@pytest.mark.parametrize("family", FAMILIES)
def test_on_the_asyncio_reactor(family: int) -> None:
    compare(ORDINARY, reactors.asyncio_stock, reactors.asyncio_eager, family)


def test_a_script_reaches_what_it_is_about() -> None:
    """That runs are the same says nothing of runs in which nothing happens."""
    run = play(ORDINARY, reactors.epoll_stock, socket.AF_INET)
    assert [event[0] for event in run.record.events] == [
        *("made", "step", "data", "step", "step", "data", "step", "read lost", "lost", "step"),
    ]
    assert len(run.peer.got) == 10 + 1000 + 65536 + 5 * 30_000 + 3 * 1000
    assert run.record.logs == [("message", "ScriptedProtocol,0,127.0.0.1")]
