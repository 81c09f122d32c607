"""``sockservices connect``: standard input to a peer, the peer to standard output."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

import click
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IHalfCloseableProtocol, ISSLTransport
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from sockservices.cli.errors import CouldNot
from sockservices.printable import escaped, system_reason


@click.command()
@click.argument("description", metavar="DESCRIPTION")
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=click.FloatRange(0, min_open=True),
    default=30.0,
    show_default=True,
    help="How long to wait for the connection.",
)
def connect(description: str, timeout: float) -> None:
    """Connect standard input and output to a stream service.

    DESCRIPTION is any Twisted client endpoint: tcp:127.0.0.1:7, unix:/run/x, tls:HOST:PORT. At the
    end of input the connection is closed for writing; the command ends when the peer closes.
    """
    from twisted.internet import reactor
    from twisted.internet.endpoints import clientFromString

    try:
        endpoint = clientFromString(reactor, description)
    except ImportError as error:
        raise CouldNot(
            f"{description} needs {error.name}: pip install 'sockservices[tls]'"
        ) from None
    except (TypeError, ValueError, IndexError) as error:
        raise click.BadParameter(
            f"{description!r}: {error}; wanted as in tcp:127.0.0.1:7 or unix:/run/x",
            param_hint="DESCRIPTION",
        ) from None
    except Exception as error:  # a certificate that is none, a file that is not there
        raise CouldNot(f"{description}: {_reason(error, None)}") from None

    problems: list[str] = []
    ended: Deferred[None] = Deferred()
    attempt = endpoint.connect(Factory.forProtocol(lambda: _ToPeer(ended)))
    give_up = reactor.callLater(timeout, attempt.cancel)

    def connected(_protocol: object) -> Deferred[None]:
        give_up.cancel()
        return ended

    def failed(failure: Failure) -> None:
        problems.append(_reason(failure.value, timeout if not give_up.active() else None))

    def stop(_result: object) -> None:
        if give_up.active():
            give_up.cancel()
        reactor.stop()

    attempt.addCallback(connected).addErrback(failed).addBoth(stop)
    with _blocking_flags_kept(0, 1):
        reactor.run()
    if problems:
        raise CouldNot(f"{description}: {problems[0]}")


def _reason(error: BaseException | None, timeout: float | None) -> str:
    if isinstance(error, ConnectError) and isinstance(error.osError, int):
        return os.strerror(error.osError)
    if isinstance(error, OSError):
        return system_reason(error)
    if isinstance(error, _OutputClosedError):
        return "standard output was closed"
    if timeout is not None:
        return f"not connected within {timeout:g} s"
    return escaped(str(error).splitlines()[0]) if str(error) else type(error).__name__


class _OutputClosedError(Exception):
    """Whoever read standard output has gone."""


@implementer(IHalfCloseableProtocol)
class _ToPeer(Protocol):
    """The connection. What it receives goes to the terminal's side, which it opens."""

    def __init__(self, ended: Deferred[None]) -> None:
        self._ended: Deferred[None] | None = ended

    def connectionMade(self) -> None:
        from twisted.internet.stdio import StandardIO

        self.here = _FromHere(self)
        StandardIO(self.here)
        _couple(self.transport, self.here.transport)

    def dataReceived(self, data: bytes) -> None:
        self.here.write(data)

    def readConnectionLost(self) -> None:
        # The peer has closed: there is nobody left to send to.
        self.transport.loseConnection()  # type: ignore[union-attr]

    def writeConnectionLost(self) -> None:
        pass

    def connectionLost(self, reason: Failure = Failure(Exception())) -> None:  # noqa: B008
        from twisted.internet.error import ConnectionDone

        self.here.end(None if reason.check(ConnectionDone) else reason)

    def end_of_input(self) -> None:
        transport: Any = self.transport
        if ISSLTransport.providedBy(transport):
            # TLS says so with close_notify; what the peer still sends is received all the same.
            transport.loseConnection()
        else:
            transport.loseWriteConnection()

    def finish(self, problem: Failure | None) -> None:
        ended, self._ended = self._ended, None
        if ended is not None:
            if problem is None:
                ended.callback(None)
            else:
                ended.errback(problem)


@implementer(IHalfCloseableProtocol)
class _FromHere(Protocol):
    """Standard input and output."""

    _output_closed = False
    _peer_gone = False
    _problem: Failure | None = None

    def __init__(self, peer: _ToPeer) -> None:
        self._peer = peer

    def dataReceived(self, data: bytes) -> None:
        self._peer.transport.write(data)  # type: ignore[union-attr]

    def write(self, data: bytes) -> None:
        self.transport.write(data)  # type: ignore[union-attr]

    def readConnectionLost(self) -> None:
        if not self._peer_gone:
            self._peer.transport.unregisterProducer()  # type: ignore[union-attr]
            self._peer.end_of_input()

    def writeConnectionLost(self) -> None:
        self._output_closed = True
        if not self._peer_gone:
            self._problem = Failure(_OutputClosedError())
            self._peer.transport.abortConnection()  # type: ignore[union-attr]

    def end(self, problem: Failure | None) -> None:
        """Deliver what was received, then finish: the peer has gone."""
        self._peer_gone = True
        self._problem = self._problem or problem
        transport: Any = self.transport
        if transport is None or self._output_closed:
            self._peer.finish(self._problem)
        else:
            transport.unregisterProducer()
            transport.loseConnection()

    def connectionLost(self, reason: Failure = Failure(Exception())) -> None:  # noqa: B008
        if self._peer_gone:
            self._peer.finish(self._problem)
        else:
            self._output_closed = True
            self._peer.transport.abortConnection()  # type: ignore[union-attr]


def _couple(one: Any, other: Any) -> None:
    """Let each side's full write buffer pause the other side's reading."""
    one.registerProducer(other, True)
    other.registerProducer(one, True)


@contextlib.contextmanager
def _blocking_flags_kept(*descriptors: int) -> Iterator[None]:
    """Give descriptors back as they were: a terminal is shared with the shell that started us."""
    sys.stdout.flush()
    before = {}
    for fd in descriptors:
        with contextlib.suppress(OSError):
            before[fd] = os.get_blocking(fd)
    try:
        yield
    finally:
        for fd, blocking in before.items():
            with contextlib.suppress(OSError):
                os.set_blocking(fd, blocking)
