"""``sockservices connect``: copy standard input to a peer, and the peer to standard output."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

import click
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, ConnectionDone
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IHandshakeListener,
    ISSLTransport,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import globalLogBeginner
from twisted.python.failure import Failure
from zope.interface import implementer

from sockservices.cli.client_endpoint import client_endpoint
from sockservices.cli.errors import CouldNot, Seconds
from sockservices.printable import escaped, system_reason
from sockservices.timer import cancel
from sockservices.transports import keep_steady


@click.command()
@click.argument("description", metavar="DESCRIPTION")
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=Seconds(min_open=True),
    default=30.0,
    show_default=True,
    help="Give up connecting after this many seconds.",
)
def connect(description: str, timeout: float) -> None:
    """Connect standard input and output to a stream service.

    DESCRIPTION is any Twisted client endpoint, such as tcp:127.0.0.1:7, unix:/run/x or
    tls:HOST:PORT, or unix:abstract=NAME. At the end of input the connection is half-closed; the
    command ends when the peer closes it.
    """
    from twisted.internet import reactor

    if sys.stdout is None:  # closed before we were started
        raise CouldNot("standard output is closed")
    # Twisted must log nothing: an error is reported in one line.
    globalLogBeginner.beginLoggingTo([], redirectStandardIO=False)
    keep_steady(reactor)
    endpoint = client_endpoint(reactor, description)
    session = _Session(reactor, timeout)
    session.start(endpoint)
    with _blocking_flags_kept(0, 1):
        reactor.run()
    if session.problem is not None:
        raise CouldNot(f"{description}: {session.problem}")


class _Session:
    """One connection, from the attempt to its end; the reactor runs until then."""

    def __init__(self, reactor: Any, timeout: float) -> None:
        self._reactor = reactor
        self._timeout = timeout
        self._timed_out = False
        self.problem: str | None = None

    def start(self, endpoint: Any) -> None:
        ended: Deferred[None] = Deferred()
        attempt = endpoint.connect(Factory.forProtocol(lambda: _ToPeer(ended)))
        give_up = self._reactor.callLater(self._timeout, self._give_up, attempt)

        def settled(result: Any) -> Any:
            cancel(give_up)
            return result

        attempt.addBoth(settled).addCallback(lambda _protocol: ended)
        attempt.addErrback(self._failed).addBoth(lambda _result: self._reactor.stop())

    def _give_up(self, attempt: Deferred[Any]) -> None:
        self._timed_out = True
        attempt.cancel()

    def _failed(self, failure: Failure) -> None:
        if self._timed_out:
            self.problem = f"not connected within {self._timeout:g} s"
        else:
            self.problem = _reason(failure.value)


def _reason(error: BaseException | None) -> str:
    if isinstance(error, ConnectError) and isinstance(error.osError, int):
        return os.strerror(error.osError)
    if isinstance(error, OSError):
        return system_reason(error)
    # An OpenSSL error holds a list of (library, function, reason).
    if error is not None and error.args and isinstance(error.args[0], list) and error.args[0]:
        return f"TLS: {error.args[0][0][-1]}"
    return escaped(" ".join(str(error).split())) or type(error).__name__


class _OutputError(Exception):
    """Standard output cannot be written to any more."""

    def __init__(self) -> None:
        super().__init__("cannot write to standard output")


@implementer(IHalfCloseableProtocol, IHandshakeListener)
class _ToPeer(Protocol):
    """The connection. It opens standard output, and writes there what it receives."""

    transport: Any

    def __init__(self, ended: Deferred[None]) -> None:
        self._ended: Deferred[None] | None = ended
        self._input_ended = False

    def connectionMade(self) -> None:
        from twisted.internet.stdio import StandardIO

        self._in_handshake = ISSLTransport.providedBy(self.transport)
        self._here = _FromHere(self)
        StandardIO(self._here)
        # Each side's full write buffer pauses the other side's reading.
        self.transport.registerProducer(self._here.transport, True)
        self._here.transport.registerProducer(self.transport, True)

    def handshakeCompleted(self) -> None:  # noqa: N802 - Twisted's name
        self._in_handshake = False
        if self._input_ended:
            self._close_writing()

    def dataReceived(self, data: bytes) -> None:
        self._here.transport.write(data)

    def readConnectionLost(self) -> None:
        # The peer has closed: nobody is left to send to.
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        pass

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._here.peer_has_gone(None if reason.check(ConnectionDone) else reason)

    def end_of_input(self) -> None:
        self._input_ended = True
        self.transport.unregisterProducer()
        if not self._in_handshake:  # until it completes there is no TLS session to close
            self._close_writing()

    def _close_writing(self) -> None:
        if ISSLTransport.providedBy(self.transport):
            # TLS sends close_notify, and still receives what the peer sends.
            self.transport.loseConnection()
        else:
            self.transport.loseWriteConnection()

    def finish(self, problem: Failure | None) -> None:
        ended, self._ended = self._ended, None
        if ended is None:
            return
        if problem is None:
            ended.callback(None)
        else:
            ended.errback(problem)


@implementer(IHalfCloseableProtocol)
class _FromHere(Protocol):
    """The protocol of standard input and output."""

    transport: Any

    def __init__(self, peer: _ToPeer) -> None:
        self._peer = peer
        self._peer_gone = False
        self._output_gone = False
        self._problem: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        self._peer.transport.write(data)

    def readConnectionLost(self) -> None:
        if not self._peer_gone:
            self._peer.end_of_input()

    def writeConnectionLost(self) -> None:
        self._output_lost()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._peer_gone and reason.check(ConnectionDone):
            self._peer.finish(self._problem)
        else:
            self._output_lost()

    def _output_lost(self) -> None:
        self._output_gone = True
        self._problem = self._problem or Failure(_OutputError())
        if self._peer_gone:
            self._peer.finish(self._problem)
        else:
            self._peer.transport.abortConnection()

    def peer_has_gone(self, problem: Failure | None) -> None:
        """Write everything that was received, then finish."""
        self._peer_gone = True
        self._problem = self._problem or problem
        if self._output_gone:
            self._peer.finish(self._problem)
        else:
            self.transport.unregisterProducer()
            self.transport.loseConnection()


@contextlib.contextmanager
def _blocking_flags_kept(*descriptors: int) -> Iterator[None]:
    """Restore the blocking mode of file descriptors: a terminal is shared with the shell."""
    before = {fd: os.get_blocking(fd) for fd in descriptors}
    try:
        yield
    finally:
        for fd, blocking in before.items():
            with contextlib.suppress(OSError):
                os.set_blocking(fd, blocking)
