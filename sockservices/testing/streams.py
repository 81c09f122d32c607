"""The contract of stream services: rules that hold whatever their peers do."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from hypothesis import strategies as st
from twisted.internet.interfaces import IProtocolFactory

from sockservices.service import IDrainable
from sockservices.testing import rules
from sockservices.testing.checking import (
    Watched,
    built_by,
    check,
    check_blocking,
    growth_in,
    not_built,
    reference_to,
    running,
    shown,
)
from sockservices.testing.failures import ContractError, Rule
from sockservices.testing.wire import Conversation

__tracebackhide__ = True  # as in checking.py

_MOST_PIECES = 8
# Bytes that trip parsers: invalid UTF-8, null bytes, line ends, blanks, bad and huge numbers.
_NASTY = (b"\xff", b"\x80", b"\0", b"\r\n", b"\n", b" ", b"-1", b"9" * 30, b"\xff\xff\xff\xff")
_PIECE = 1 << 14
_SHORTEST_ANSWER = 16  # a request may be this many times longer than its answer


class StreamServiceContract:
    """The rules of a stream service, as tests.

    Derive a test class from it, for pytest or (together with ``unittest.TestCase``) for trial. Set
    there what builds the service's factory, and what a peer may send.

    A failure shows the broken rule, the shortest input that was found to break it, and the usual
    fix.
    """

    factory: Callable[[], Any]
    """The factory's class, or a function or method that returns a factory."""
    examples: Sequence[bytes] = ()
    """Complete inputs that mean something to the service."""
    inputs: st.SearchStrategy[bytes] | None = None
    """A Hypothesis strategy for such inputs, instead of or in addition to the examples."""
    endless: bytes = b"x"
    """The bytes of a message that never ends, which are sent again and again."""
    endless_after: bytes = b""
    """The beginning of such a message, such as ``b"999999999:"`` if its length comes first."""
    max_memory: int = 1 << 20
    """The bytes of memory that one connection may take, whatever its peer does."""
    max_blocking: float = 0.5
    """The seconds that one call into the protocol may take."""

    def settle(self) -> None:
        """Advance the service's own clock, if it has one; called in each turn."""

    # Helpers of the tests

    @contextlib.contextmanager
    def _serving(self) -> Iterator[Any]:
        """Yield a factory that has been started, as a listener does."""
        factory = built_by(self)
        if not IProtocolFactory.providedBy(factory):
            raise not_built(f"{type(factory).__name__} is not a protocol factory")
        factory.doStart()
        try:
            yield factory
        finally:
            factory.doStop()

    def _inputs(self) -> st.SearchStrategy[bytes]:
        told = [st.sampled_from(list(self.examples))] if self.examples else []
        if self.inputs is not None:
            told.append(self.inputs)
        return st.one_of(*told) if told else st.binary(max_size=200)

    def _anything(self) -> st.SearchStrategy[bytes]:
        """Return inputs that mean something, inputs mixed with rubbish, and rubbish alone."""
        pieces = self._inputs() | st.sampled_from(_NASTY) | st.binary(max_size=20)
        return st.lists(pieces, max_size=4).map(b"".join) | st.binary(max_size=200)

    def _talk(self, factory: Any) -> Conversation:
        conversation = Conversation(factory, self.settle)
        conversation.connect()
        return conversation

    def _say(self, factory: Any, pieces: Sequence[bytes]) -> Conversation:
        conversation = self._talk(factory)
        for piece in pieces:
            conversation.send(piece)
        return conversation

    # The rules

    def test_any_cutting_of_the_input_gives_the_same_output(self) -> None:
        """A stream may arrive whole, in pieces or byte by byte."""

        def cut(data: bytes, places: list[int]) -> list[bytes]:
            ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
            return [data[a:b] for a, b in itertools.pairwise(ends)]

        def heard(pieces: Sequence[bytes]) -> tuple[bytes, bool]:
            with self._serving() as factory:
                conversation = self._say(factory, pieces)
                is_endless = conversation.is_endless
                conversation.end_input()
                conversation.vanish()
            return conversation.output, is_endless

        def run(given: tuple[bytes, list[int]]) -> None:
            data, places = given
            for pieces in (cut(data, places), [bytes([each]) for each in data]):
                label = " + ".join(map(shown, pieces)) or "nothing"

                def compare(
                    _watched: Watched, pieces: list[bytes] = pieces, label: str = label
                ) -> None:
                    (whole, is_endless), (parts, _) = heard([data]), heard(pieces)
                    if is_endless:
                        whole, parts = (
                            each[: min(len(whole), len(parts))] for each in (whole, parts)
                        )
                    if whole == parts:
                        return
                    again, _ = heard([data])
                    what = f"{shown(parts)}, but {shown(whole)} when the input arrives whole"
                    if not again.startswith(whole):
                        what = f"{shown(again)}, but {shown(whole)} before"
                        raise ContractError(rules.REPEATABLE, what, shown(data))
                    raise ContractError(rules.CUTTING, what, label)

                running(rules.BYTES, label, compare)

        places = st.lists(st.integers(0, 1 << 16), max_size=_MOST_PIECES)
        check(st.tuples(self._inputs(), places), run)

    def test_no_input_raises_an_exception(self) -> None:
        """An exception would be logged as a bug of the service."""

        def run(data: bytes) -> None:
            def say(_watched: Watched) -> None:
                with self._serving() as factory:
                    conversation = self._say(factory, [data])
                    conversation.end_input()
                    conversation.vanish()

            running(rules.BYTES, shown(data), say)

        check(self._anything(), run)

    def test_a_peer_that_goes_leaves_nothing_behind(self) -> None:
        """A peer may go at the beginning, within a message, or while the service writes."""

        def run(given: tuple[bytes, int, bool]) -> None:
            data, moment, while_writing = given
            place = moment % (len(data) + 1)
            where = "the peer goes during a write" if while_writing else "then the peer goes"
            label = f"{shown(data[:place])}, {where}"

            def go(watched: Watched) -> None:
                with self._serving() as factory:
                    conversation = Conversation(factory, self.settle)
                    if while_writing:
                        conversation.vanish_at_write()
                    conversation.connect()
                    conversation.send(data[:place])
                    conversation.vanish()
                    protocol = reference_to(conversation.protocol)
                    del conversation
                # The factory still exists, but has been stopped.
                watched.raise_left(protocol, rules.GONE, label)

            def stay(_watched: Watched) -> None:
                with self._serving() as factory:
                    self._say(factory, [data[:place]])

            running(rules.BYTES, label, stay)
            running(rules.GONE, label, go)

        check(st.tuples(self._inputs(), st.integers(0, 1 << 16), st.booleans()), run, examples=20)

    def test_a_peer_that_never_reads_takes_bounded_memory(self) -> None:
        """The peer keeps sending, so the answers to it have to wait somewhere."""

        def run(data: bytes) -> None:
            if not data:
                return

            def flood(watched: Watched) -> None:
                with self._serving() as factory, growth_in() as growth:
                    conversation = self._talk(factory)
                    transport = conversation.transport
                    transport.peer_reads = False
                    sent = 0
                    # Short answers need more requests before they reach the limit.
                    while conversation.takes_more and sent < self.max_memory * (
                        _SHORTEST_ANSWER if transport.waiting else 2
                    ):
                        conversation.send(data * max(1, _PIECE // len(data)))
                        sent += _PIECE
                        watched.raise_logged(rules.BYTES, shown(data))
                        self._bounded(growth(), rules.UNREAD, shown(data), sent)
                    conversation.vanish()

            running(rules.BYTES, f"{shown(data)}, again and again", flood)

        check(self._inputs(), run, examples=3)

    def test_a_message_that_never_ends_takes_bounded_memory(self) -> None:
        """An incomplete message has to be buffered, but not without a limit."""
        begun = f"{shown(self.endless_after)}, then " if self.endless_after else ""
        label = f"{begun}{shown(self.endless)}"

        def flood(_watched: Watched) -> None:
            piece = self.endless * max(1, _PIECE // len(self.endless))
            with self._serving() as factory, growth_in() as growth:
                conversation = self._say(factory, [self.endless_after])
                sent = 0
                while sent < 2 * self.max_memory and conversation.takes_more:
                    conversation.send(piece)
                    conversation.transport.output.clear()  # the peer reads and discards it
                    sent += len(piece)
                    self._bounded(growth(), rules.ENDLESS, label, sent)
                conversation.vanish()

        running(rules.BYTES, f"{label}, again and again", flood)

    def _bounded(self, growth: int, rule: Rule, given: str, sent: int) -> None:
        if growth > self.max_memory:
            raise ContractError(
                rule,
                f"{growth} more bytes after {sent} were sent (max_memory: {self.max_memory})",
                f"{given}, again and again",
            )

    def test_a_half_close_loses_no_answer(self) -> None:
        """A client may send everything, half-close and wait for the answer, as nc -N does."""

        def run(data: bytes) -> None:
            label = f"{shown(data)} and the end of input"

            def half_close(_watched: Watched) -> None:
                answer, again = patient(), patient()
                with self._serving() as factory:
                    ended = self._talk(factory)
                    ended.send_and_end(data)
                    hangs, is_open = ended.hangs, ended.is_open and not ended.is_endless
                    ended.vanish()
                if not ended.output.startswith(answer):
                    rule = rules.HALF_CLOSE if answer == again else rules.REPEATABLE
                    what = f"{shown(ended.output)}, but {shown(answer)} when the peer waits"
                    raise ContractError(rule, what, label)
                if is_open:
                    what = "the service keeps the connection open"
                    raise ContractError(rules.HALF_CLOSE, what, label)
                if hangs:
                    raise _hanging(label)

            def patient() -> bytes:
                with self._serving() as factory:
                    whole = self._say(factory, [data])
                    answer = b"" if whole.is_endless else whole.output
                    whole.vanish()
                return answer

            running(rules.BYTES, label, half_close)

        check(self._inputs(), run)

    def test_connection_lost_comes_once(self) -> None:
        """Only the transport reports the end, and it must not be used after that."""

        def run(data: bytes) -> None:
            def end(_watched: Watched) -> None:
                with self._serving() as factory:
                    conversation = Conversation(factory, self.settle)
                    calls = conversation.count_connection_lost()
                    conversation.connect()
                    conversation.send(data)
                    if conversation.hangs:
                        raise _hanging(shown(data))
                    conversation.end_input()
                    conversation.vanish()
                    self.settle()
                if calls() != (0 if conversation.is_refused else 1):
                    raise ContractError(rules.ONCE, f"called {calls()} times", shown(data))
                if conversation.transport.was_written_after_the_end:
                    raise ContractError(rules.ONCE, "a write after the end", shown(data))

            running(rules.BYTES, shown(data), end)

        check(self._inputs(), run)

    def test_a_drain_ends_what_is_idle(self) -> None:
        """A protocol that provides ``IDrainable`` must close its connection at shutdown."""

        def run(data: bytes) -> None:
            label = f"{shown(data)}, then drain()"

            def drain(_watched: Watched) -> None:
                with self._serving() as factory:
                    conversation = self._say(factory, [data])
                    drainable = IDrainable(conversation.protocol, None)
                    if drainable is not None and conversation.is_open:
                        drainable.drain()
                        conversation.turn()
                        hangs, is_open = conversation.hangs, conversation.is_open
                        conversation.vanish()
                        if is_open:
                            raise ContractError(rules.DRAIN, "the connection stays open", label)
                        if hangs:
                            raise _hanging(label)
                    conversation.vanish()

            running(rules.BYTES, label, drain)

        check(self._inputs(), run)

    def test_nothing_holds_up_the_event_loop(self) -> None:
        """While one connection is served, all others wait."""

        def longest(data: bytes) -> float:
            with self._serving() as factory:
                conversation = Conversation(factory, self.settle)
                with contextlib.suppress(Exception):  # another rule reports it
                    conversation.connect()
                    conversation.send(data)
                    conversation.vanish()
            return conversation.longest

        check_blocking(self.examples, self._anything(), longest, self.max_blocking, rules.BYTES)


def _hanging(given: str) -> ContractError:
    return ContractError(rules.CLOSING, "a producer is still registered", given)
