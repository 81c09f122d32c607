"""What is particular to the C code; tests/transports has that it does the same as Python."""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest
import sockservices_fast
from twisted.internet.abstract import FileDescriptor

from sockservices.transports import accelerator, tcp


@pytest.fixture
def epoll() -> Any:
    with select.epoll() as made:
        yield made


def dispatch(epoll: Any, timeout: float, served: dict[int, Any], owner: Any = None) -> None:
    sockservices_fast.dispatch(owner, epoll.fileno(), timeout, served, [{}])


def test_it_is_what_is_in_use() -> None:
    assert accelerator.accelerator is sockservices_fast
    assert accelerator.language.startswith("C (sockservices-fast ")
    assert issubclass(tcp.Server, sockservices_fast.Stream)


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        (None, 0, 0, {}),
        (None, "0", 0, {}, []),
        (None, 0, "0", {}, []),
        (None, 1 << 70, 0, {}, []),
        (None, -1, 0, {}, []),
    ],
)
def test_wrong_arguments_are_errors(arguments: tuple[Any, ...]) -> None:
    with pytest.raises((TypeError, OverflowError, OSError)):
        sockservices_fast.dispatch(*arguments)


def test_wrong_containers_are_errors(epoll: Any) -> None:
    reading, writing = os.pipe()
    epoll.register(reading, select.EPOLLIN)
    os.write(writing, b"!")
    connection = SimpleNamespace(doRead=lambda: None)
    try:
        for served, contexts in (
            ([], [{}]),
            ({reading: connection}, []),
            ({reading: connection}, {}),
        ):
            with pytest.raises((SystemError, IndexError)):
                sockservices_fast.dispatch(None, epoll.fileno(), 0, served, contexts)
        with pytest.raises(AttributeError):  # no owner to hand other events to
            dispatch(epoll, 0, {})
    finally:
        os.close(reading)
        os.close(writing)


def test_it_waits_as_long_as_asked(epoll: Any) -> None:
    for timeout in (0, 0.0, 0.001, 0.02):
        begun = time.monotonic()
        dispatch(epoll, timeout, {})
        assert time.monotonic() - begun >= timeout


@pytest.mark.parametrize("timeout", [-1, 30, 1e300])
def test_other_threads_run_while_it_waits(epoll: Any, timeout: float) -> None:
    reading, writing = os.pipe()
    epoll.register(reading, select.EPOLLIN)
    read: list[bytes] = []
    connection = SimpleNamespace(doRead=lambda: read.append(os.read(reading, 1)))
    thread = threading.Thread(target=os.write, args=(writing, b"!"))
    thread.start()
    dispatch(epoll, timeout, {reading: connection})
    thread.join()
    os.close(reading)
    os.close(writing)
    assert read == [b"!"]


def test_a_signal_whose_handler_raises_ends_the_wait(epoll: Any) -> None:
    def handle(*_: Any) -> None:
        raise ZeroDivisionError

    before = signal.signal(signal.SIGALRM, handle)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        with pytest.raises(ZeroDivisionError):
            dispatch(epoll, -1, {})
    finally:
        signal.signal(signal.SIGALRM, before)


def test_after_another_signal_it_waits_on(epoll: Any) -> None:
    reading, writing = os.pipe()
    epoll.register(reading, select.EPOLLIN)
    seen: list[Any] = []
    connection = SimpleNamespace(doRead=lambda: seen.append(os.read(reading, 1)))

    def handle(*_: Any) -> None:
        if seen:
            os.write(writing, b"!")
        else:
            seen.append("a signal")
            signal.setitimer(signal.ITIMER_REAL, 0.01)

    before = signal.signal(signal.SIGALRM, handle)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        dispatch(epoll, -1, {reading: connection})
    finally:
        signal.signal(signal.SIGALRM, before)
        os.close(reading)
        os.close(writing)
    assert seen == ["a signal", b"!"]


def test_an_error_of_the_owner_leaves_it_with_the_other_events_undone(epoll: Any) -> None:
    class Owner:
        def _end_reading(self, connection: Any, why: Any, has_read: bool) -> None:
            ended.append((why, has_read))
            raise why

    ended: list[Any] = []
    error = KeyboardInterrupt()

    def fail() -> None:
        raise error

    pipes = [os.pipe() for _ in range(3)]
    served = {reading: SimpleNamespace(doRead=fail) for reading, _writing in pipes}
    for reading, writing in pipes:
        epoll.register(reading, select.EPOLLIN)
        os.write(writing, b"!")
    with pytest.raises(KeyboardInterrupt):
        dispatch(epoll, 0, served, Owner())
    assert ended == [(error, False)]
    assert error.__traceback__ is not None
    for pipe in pipes:
        for each in pipe:
            os.close(each)


@pytest.mark.parametrize(
    "name", ["_held", "_was_full", "_is_simple", "_broken", "protocol", "socket"]
)
def test_an_attribute_that_is_deleted_is_an_error_in_python(name: str) -> None:
    stream: Any = tcp.Client.__new__(tcp.Client)
    setattr(stream, name, None)
    delattr(stream, name)
    with pytest.raises(AttributeError):
        getattr(stream, name)
    with pytest.raises(AttributeError):
        stream.doRead()
        stream.write(b"")


def test_a_number_is_a_number() -> None:
    stream: Any = tcp.Client.__new__(tcp.Client)
    for name in ("bytes_in", "bytes_out", "bufferSize", "_sent", "_tempDataLen"):
        with pytest.raises(TypeError):
            setattr(stream, name, "many")
    assert stream.bufferSize == FileDescriptor.bufferSize


def test_who_makes_one_of_its_own_is_told_what_is_missing() -> None:
    with pytest.raises(AttributeError, match="_send_purely"):
        sockservices_fast.Stream()
