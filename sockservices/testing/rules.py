"""The rules, in one place: what holds for every service, and how it is usually mended."""

from __future__ import annotations

from sockservices.testing.failures import Rule

BUILDING = Rule(
    "a contract's factory can be built",
    "let `factory` be what builds it without arguments: its class, or a function or method that "
    "returns one",
)
REPEATABLE = Rule(
    "the same input gives the same output, each time",
    "a contract compares answers: let `factory` build everything anew, and seed what is random",
)
CUTTING = Rule(
    "the output is the same for any cutting of the input",
    "TCP has no messages: keep what is incomplete until the rest has come, as LineReceiver and "
    "IntNStringReceiver do",
)
BYTES = Rule(
    "no input raises an exception",
    "bytes from the network may be anything: catch what parsing raises (UnicodeDecodeError, "
    "ValueError, IndexError) and answer or close",
)
GONE = Rule(
    "a peer that goes leaves nothing behind: no error, no timer, no reference",
    "in connectionLost cancel delayed calls and Deferreds, and take the protocol out of whatever "
    "the factory keeps",
)
UNREAD = Rule(
    "a peer that never reads takes bounded memory",
    "register a producer (for an echo: self.transport.registerProducer(self.transport, True)), so "
    "that a full write buffer pauses the reading; unregister it before loseConnection()",
)
ENDLESS = Rule(
    "a message that never ends takes bounded memory",
    "set a limit (LineReceiver.MAX_LENGTH, IntNStringReceiver.MAX_LENGTH), and close above it",
)
HALF_CLOSE = Rule(
    "a peer that ends its input gets the whole answer, and then the end",
    "provide IHalfCloseableProtocol, and close in readConnectionLost when all is written",
)
CLOSING = Rule(
    "a connection that the service closes ends",
    "call transport.unregisterProducer() before transport.loseConnection(): with TLS it waits for "
    "a producer for ever",
)
ONCE = Rule(
    "connectionLost comes once, and nothing is done with the transport after it",
    "do not call connectionLost yourself: call transport.loseConnection() and wait for it",
)
DRAIN = Rule(
    "a drained connection with nothing to do is ended",
    "in drain() call transport.loseConnection() if no request is being worked on, else after it",
)
BLOCKING = Rule(
    "no call holds up the event loop",
    "use deferToThread for what blocks, callLater for waiting, and cut long work into pieces",
)
DATAGRAMS = Rule(
    "no datagram raises an exception: empty, largest, repeated, out of order",
    "datagrams may be anything, and nothing at all: check the length before you index",
)
TRUNCATED = Rule(
    "a datagram that was cut raises no exception",
    "provide ITruncationReceiver, or take a part as you would take anything else",
)
UNKNOWN_PEER = Rule(
    "a datagram whose sender cannot be told raises no exception",
    "on Unix sockets a peer may be None: do not answer it",
)
STOPPED = Rule(
    "a listener that stops leaves nothing behind: no error, no timer, no reference",
    "in stopProtocol cancel delayed calls",
)
