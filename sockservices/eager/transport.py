"""What makes a connection eager: a write with nothing before it goes to the kernel at once.

Twisted's own transports keep what is written until the reactor finds the socket writable: two
epoll_ctl(2), an epoll_wait(2) and a turn for each answer. All else is Twisted's: what the kernel
does not take is kept, sent and closed as Twisted does it.

Private names of Twisted used here, checked with 24.7 to 26.10: ``_aborting``, ``_closeSocket``,
``_maybePauseProducer``, ``_tempDataBuffer``, ``_tempDataLen``, ``_writeDisconnected`` and
``twisted.internet._newtls.startTLS``.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

from twisted.internet import main, tcp
from twisted.internet.abstract import FileDescriptor

# A read that filled Twisted's 64 KiB is followed by one of this size. It has one buffer for all
# connections of a thread: the allocator would map and unmap so much for each read.
LARGE_READ = 1 << 18


class _LargeBuffer(threading.local):
    def __init__(self) -> None:
        self.view = memoryview(bytearray(LARGE_READ))


_large_buffer = _LargeBuffer()


class EagerDescriptor(FileDescriptor):
    """The writing of a connection; beneath TLS, where that is started late."""

    # Whether the kernel has refused some of what was written last.
    blocked = False
    # What has been sent at once since the last turn, in bytes.
    _produced = 0
    # Whether a send has failed for good; the kernel says so only once.
    _broken = False

    socket: Any

    def write(self, data: bytes) -> None:
        """See ``ITransport.write``."""
        producer = self.producer
        if (
            self._tempDataLen
            or self.dataBuffer
            or not self.connected
            or self._writeDisconnected
            or self._aborting  # type: ignore[attr-defined]
            or (producer is not None and not self.streamingProducer)
            or data.__class__ is not bytes
            or not data
        ):
            FileDescriptor.write(self, data)
            return
        try:
            sent = self.socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            # The reactor finds the same when it tries again, and ends the connection in its turn.
            self._broken = True
            sent = 0
        if sent < len(data):
            self.blocked = True
            self._tempDataBuffer.append(memoryview(data)[sent:])  # type: ignore[arg-type]
            self._tempDataLen += len(data) - sent
            self._maybePauseProducer()
            self.startWriting()
            return
        self._produced += sent
        if producer is not None and self._produced > self.bufferSize:
            # The kernel would take more; but so much, Twisted lets it write before others have
            # their turn.
            self.producerPaused = True
            producer.pauseProducing()  # type: ignore[attr-defined]
            self.startWriting()

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        """See ``ITransport.writeSequence``."""
        if self._tempDataLen or self.dataBuffer:
            FileDescriptor.writeSequence(self, iovec)
            return
        for each in iovec:
            if not isinstance(each, bytes):
                raise TypeError("Data must be bytes")
        EagerDescriptor.write(self, b"".join(iovec))

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """See ``IConsumer.registerProducer``."""
        FileDescriptor.registerProducer(self, producer, streaming)  # type: ignore[misc]
        if not streaming and self._produced and self.connected:
            self.startWriting()  # what was written calls for the producer when it is sent

    def doWrite(self) -> Any:
        """See ``IWriteDescriptor.doWrite``."""
        self.blocked = False
        self._produced = 0
        return super().doWrite()  # type: ignore[no-untyped-call]


class EagerConnection(EagerDescriptor):
    """To be mixed into Twisted's stream transports, before them."""

    # Whether the last read filled its buffer, so that there is probably more.
    _much_to_read = False

    protocol: Any

    def doRead(self) -> Any:
        """See ``IReadDescriptor.doRead``."""
        try:
            if self._much_to_read:
                view = _large_buffer.view
                data = bytes(view[: self.socket.recv_into(view)])
            else:
                data = self.socket.recv(self.bufferSize)
        except BlockingIOError:
            return None
        except OSError:
            return main.CONNECTION_LOST
        if not data:
            return main.CONNECTION_LOST if self._broken else main.CONNECTION_DONE
        self._much_to_read = len(data) >= self.bufferSize
        self._produced = 0
        self.protocol.dataReceived(data)
        return None

    def write(self, data: bytes) -> None:
        """See ``ITransport.write``."""
        if self.TLS:  # type: ignore[attr-defined]
            tcp.Connection.write(self, data)  # type: ignore[arg-type]
        else:
            EagerDescriptor.write(self, data)

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        """See ``ITransport.writeSequence``."""
        if self.TLS:  # type: ignore[attr-defined]
            tcp.Connection.writeSequence(self, iovec)  # type: ignore[arg-type]
        else:
            EagerDescriptor.writeSequence(self, iovec)

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """See ``IConsumer.registerProducer``."""
        if self.TLS:  # type: ignore[attr-defined]
            tcp.Connection.registerProducer(self, producer, streaming)  # type: ignore[arg-type]
        else:
            EagerDescriptor.registerProducer(self, producer, streaming)

    def startTLS(self, ctx: Any, normal: bool = True) -> None:
        """See ``ITLSTransport.startTLS``."""
        from twisted.internet._newtls import startTLS

        startTLS(self, ctx, normal, EagerDescriptor)

    def _closeSocket(self, orderly: bool) -> None:
        forget = getattr(self.reactor, "forget", None)
        if forget is not None:
            forget(self)
        super()._closeSocket(orderly)  # type: ignore[misc]
