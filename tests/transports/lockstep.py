"""A script run over a real connection: the peer a plain socket, the reactor turn by turn.

Each step begins when the one before has had all its effects: nothing is due, nothing is on its way.
The kernel is asked, so that no verdict depends on time.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import tempfile
import time
from array import array
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from fcntl import ioctl
from termios import FIONREAD, TIOCOUTQ
from typing import Any

from twisted.python import log

from tests.transports.reactors import TURNS, turn_until
from tests.transports.scripted_protocol import Record, ScriptedFactory, ScriptedProtocol
from tests.transports.scripts import Script, Step

RESET = struct.pack("ii", 1, 0)  # SO_LINGER: on, no time


def how_many(sock: Any, request: int) -> int:
    """Ask an ioctl(2) that answers with a number of bytes."""
    answer = array("i", [0])
    ioctl(sock, request, answer)
    return answer[0]


def is_readable(sock: socket.socket) -> bool:
    return bool(select.select([sock], [], [], 0)[0])


class Peer:
    """The other end."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.socket = sock
        self.got = bytearray()
        self.outgoing = b""
        # How it found the connection ended: "", "eof" or "reset".
        self.end = ""
        self.shut = False
        self.closed = False

    def read(self, most: int = 1 << 20) -> None:
        while not self.closed and not self.end and most > 0:
            try:
                data = self.socket.recv(most)
            except BlockingIOError:
                return
            except ConnectionError:
                self.end = "reset"
                return
            if not data:
                self.end = "eof"
            self.got += data
            most -= len(data)

    def flush(self) -> None:
        if not self.outgoing:
            return
        try:
            self.outgoing = self.outgoing[self.socket.send(self.outgoing) :]
        except BlockingIOError:
            return
        except OSError:
            self.outgoing = b""

    def close(self) -> None:
        self.closed = True
        self.outgoing = b""
        self.socket.close()


class Run:
    """One run of a script."""

    def __init__(self, script: Script, reactor: Any, streams: Any, family: int) -> None:
        self.script = script
        self.reactor = reactor
        self.record = Record()
        self.protocol = ScriptedProtocol(script, self.record, reactor)
        self.sent = 0
        self.messages = 0
        with tempfile.TemporaryDirectory() as folder:
            self.peer = self._connect(streams, family, os.path.join(folder, "s"))
        self.protocol.peer_got = lambda: len(self.peer.got)

    def _connect(self, streams: Any, family: int, path: str) -> Peer:
        factory = ScriptedFactory(lambda: self.protocol)
        loopback = "::1" if family == socket.AF_INET6 else "127.0.0.1"
        if self.script.client:
            with socket.socket(family) as listening:
                unix = family == socket.AF_UNIX
                listening.bind(path if unix else (loopback, 0))
                listening.listen()
                if unix:
                    streams.connectUNIX(path, factory)
                else:
                    streams.connectTCP(loopback, listening.getsockname()[1], factory)
                # The connection is begun in a call later.
                turn_until(self.reactor, lambda: is_readable(listening))
                peer = Peer(listening.accept()[0])
        else:
            if family == socket.AF_UNIX:
                port = streams.listenUNIX(path, factory)
                address: Any = path
            else:
                port = streams.listenTCP(0, factory, interface=loopback)
                address = (loopback, port.getHost().port)
            sock = socket.socket(family)
            sock.connect(address)
            peer = Peer(sock)
        turn_until(self.reactor, lambda: self.protocol.is_made)
        if not self.script.client:
            stopped = port.stopListening()
            turn_until(self.reactor, lambda: stopped.called)
        return peer

    def go(self) -> None:
        self.settle(reading=False)
        for step in self.script.steps:
            if not self.peer.closed and not (self.script.deaf and step.kind in ("read", "drain")):
                self.record.add("step", step.kind)
                self.settle(reading=self.take(step))
        if self.script.drain_at_end and not self.script.deaf:
            self.settle(reading=True)
        if not self.peer.closed:
            self.record.add("step", "end")
            self.note_cut()
            self.close()
            self.await_end()
            self.settle(reading=False)
        if not self.protocol.lost:
            self.record.add("aborted")
            self.protocol.op_abort()
            self.settle(reading=False)
        assert self.protocol.lost

    def take(self, step: Step) -> bool:
        """Let the peer take a step; return whether it reads whatever comes then."""
        kind, peer = step.kind, self.peer
        if kind == "send" and not peer.shut:
            self.sent += step.size
            self.protocol.due.append((self.sent, step.operations))
            peer.outgoing += b"%-*d" % (step.size, self.sent)
            peer.flush()
        elif kind == "poke":
            self.protocol.op_later(step.operations)
        elif kind == "read":
            peer.read(step.size)
        elif kind in ("shut", "close", "reset") and not peer.shut:
            self.note_cut()
            if kind == "shut":
                peer.shut = True
                peer.outgoing = b""
                with suppress(OSError):
                    peer.socket.shutdown(socket.SHUT_WR)
            else:
                if kind == "reset":
                    peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                self.close()
            self.await_end()
        return kind == "drain"

    def close(self) -> None:
        if self.protocol.transport in self.reactor.getWriters():
            self.record.into_nothing = True
        self.protocol.peer_closed = True
        self.peer.close()

    def note_cut(self) -> None:
        if self.peer.outgoing:
            self.record.cut = True
        self.protocol.note_cut()

    def await_end(self) -> None:
        """Wait until the kernel has brought the peer's end to this side, if it can."""
        if self.protocol.lost or (not self.peer.closed and how_many(self.peer.socket, TIOCOUTQ)):
            return
        if self.peer.closed and self.is_unread:
            return
        poll = select.poll()
        poll.register(self.protocol.wire.getHandle(), select.POLLRDHUP)
        assert poll.poll(5000), "the peer's end has not come"

    @property
    def is_unread(self) -> bool:
        return bool(how_many(self.protocol.wire.getHandle(), FIONREAD))

    def settle(self, reading: bool) -> None:
        """Run turns until nothing changes and nothing is on its way.

        :param reading: whether the peer reads meanwhile.
        """
        # With much to send, when it is sent depends on how much the kernel takes, which is another
        # amount in one piece and in several: the peer reads, but one that never does.
        quiet = 0
        for _ in range(TURNS):
            if self.record.bulk is not None and not self.script.deaf:
                reading = True
            before = (self.record.changes, len(self.peer.got), len(self.peer.outgoing))
            if quiet < 0:
                # Not by waiting in the reactor: beside one that always has something to do, so many
                # turns pass before the kernel has acknowledged what it was sent (40 ms, tcp(7)).
                time.sleep(0.0005)
            self.reactor.iterate(0)
            if not self.peer.closed:
                self.peer.flush()
            if reading:
                self.peer.read()
            if before != (self.record.changes, len(self.peer.got), len(self.peer.outgoing)):
                quiet = 0
            elif self.is_busy(reading):
                quiet = -1
            else:
                quiet += 1
                if quiet == 3:
                    self.protocol.written = 0
                    return
        raise AssertionError(f"no rest in so many turns: {self.record.events}")

    def is_busy(self, reading: bool) -> bool:
        now = self.reactor.seconds()
        if any(call.getTime() <= now for call in self.reactor.getDelayedCalls()):
            return True
        peer, protocol = self.peer, self.protocol
        if protocol.lost:
            return reading and not peer.closed and not peer.end
        wire = protocol.wire
        awaited = reading and not peer.closed and not peer.end
        if awaited and (wire in self.reactor.getWriters() or how_many(wire.getHandle(), TIOCOUTQ)):
            return True
        if wire not in self.reactor.getReaders():
            return False
        return bool(self.is_unread or (not peer.closed and how_many(peer.socket, TIOCOUTQ)))


def play(
    script: Script, kind: Callable[[], AbstractContextManager[tuple[Any, Any]]], family: int
) -> Run:
    """Run a script on a new reactor.

    :param kind: makes a reactor, and what listens and connects for it.
    """
    with kind() as (reactor, streams):
        logged: list[Any] = []
        log.addObserver(logged.append)
        try:
            run = Run(script, reactor, streams, family)
            try:
                run.go()
            finally:
                run.peer.close()
        finally:
            log.removeObserver(logged.append)
            for event in logged:
                if event["isError"]:
                    failure = event.get("failure")
                    what = failure.type.__name__ if failure else event["why"]
                    run.record.logs.append((what, event["system"]))
                elif event["message"] == ("scripted",):
                    run.record.logs.append(("message", event["system"]))
        return run
