"""The rules of the contracts: what must hold for every service, and the usual fix."""

from __future__ import annotations

from sockservices.testing.failures import Rule

BUILDING = Rule(
    "a contract's factory can be built",
    "set `factory` to something that builds it without arguments: its class, or a function or "
    "method that returns one",
)
REPEATABLE = Rule(
    "the same input gives the same output every time",
    "a contract compares answers: let `factory` create everything afresh, and seed random numbers",
)
CUTTING = Rule(
    "the output is the same for any cutting of the input",
    "TCP has no messages: buffer an incomplete one until the rest arrives, as LineReceiver and "
    "IntNStringReceiver do",
)
BYTES = Rule(
    "no input raises an exception",
    "bytes from the network may be anything: catch what parsing raises (UnicodeDecodeError, "
    "ValueError, IndexError) and answer or close",
)
GONE = Rule(
    "a peer that goes leaves nothing behind: no error, no timer, no reference",
    "in connectionLost, cancel delayed calls and Deferreds, and remove the protocol from whatever "
    "the factory keeps",
)
UNREAD = Rule(
    "a peer that never reads takes bounded memory",
    "register a producer (for an echo: self.transport.registerProducer(self.transport, True)), so "
    "that a full write buffer pauses reading; unregister it before loseConnection()",
)
ENDLESS = Rule(
    "a message that never ends takes bounded memory",
    "set a limit (LineReceiver.MAX_LENGTH, IntNStringReceiver.MAX_LENGTH), and close beyond it",
)
HALF_CLOSE = Rule(
    "a peer that ends its input gets the whole answer, and then the end",
    "provide IHalfCloseableProtocol, and close in readConnectionLost once everything is written",
)
CLOSING = Rule(
    "a connection that the service closes ends",
    "call transport.unregisterProducer() before transport.loseConnection(), which waits forever "
    "for a registered producer with TLS",
)
ONCE = Rule(
    "connectionLost is called once, and the transport is not used after it",
    "do not call connectionLost yourself: call transport.loseConnection() and wait for it",
)
DRAIN = Rule(
    "a drained connection with nothing to do is closed",
    "in drain(), call transport.loseConnection() at once, or after the request in progress",
)
BLOCKING = Rule(
    "no call holds up the event loop",
    "use deferToThread for blocking calls, callLater to wait, and split long work into pieces",
)
DATAGRAMS = Rule(
    "no datagram raises an exception: empty, largest, repeated, out of order",
    "datagrams may hold anything, or nothing: check the length before you index",
)
TRUNCATED = Rule(
    "a truncated datagram raises no exception",
    "provide ITruncationReceiver, or handle the part like any other datagram",
)
UNKNOWN_PEER = Rule(
    "a datagram from an unknown sender raises no exception",
    "on Unix sockets the peer may be None: do not answer it",
)
STOPPED = Rule(
    "a listener that stops leaves nothing behind: no error, no timer, no reference",
    "in stopProtocol, cancel delayed calls",
)
