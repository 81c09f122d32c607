"""What a service may offer beyond Twisted's own interfaces. All of it is optional."""

from __future__ import annotations

from zope.interface import Attribute, Interface

from sockservices.printable import DatagramPeer


class IDatagramFactory(Interface):
    """Makes a datagram protocol for each listener, as ``IProtocolFactory`` does for connections.

    For services whose listeners share something: a count, an output. A service without that is
    a ``DatagramProtocol`` class, of which each listener gets an object of its own.
    """

    def build_datagram_protocol():  # type: ignore[no-untyped-def]
        """Return a new ``twisted.internet.protocol.DatagramProtocol``."""


class IBatchReceiver(Interface):
    """A datagram protocol that takes together what had arrived when the listener woke up.

    For a protocol that does something once for them all, such as to write to a file. Without it
    the listener calls ``datagramReceived`` for each.
    """

    def datagrams_received(datagrams: list[tuple[bytes, DatagramPeer]]) -> None:
        """Take the datagrams, in the order in which they came.

        Parameters:
            datagrams: of each its bytes and its peer, as for ``datagramReceived``.
        """


class ITruncationReceiver(Interface):
    """A datagram protocol that wants to know of datagrams longer than its buffer.

    Without it the listener hands the part that fits to ``datagramReceived`` and logs the cut.
    """

    max_datagram_size: int = Attribute("The longest datagram taken whole, in bytes.")

    def datagram_truncated(data: bytes, size: int, peer: DatagramPeer) -> None:
        """Take the first ``max_datagram_size`` bytes of a datagram that had ``size`` bytes.

        Parameters:
            data: ``bytes``, what was read.
            size: ``int``, the datagram's own length in bytes, where the system tells (Linux);
                elsewhere ``len(data)``.
            peer: as for ``datagramReceived``.
        """


class IAnswering(Interface):
    """A datagram protocol that answers by ``transport.answer``, as ``AnsweringProtocol`` does.

    To it a Unix listener tells the senders that have a path as strings with their user's number
    (``uid``), which it asks the kernel for; that costs each datagram a little time.
    """


class IDrainable(Interface):
    """A protocol that wants to know that its service stops.

    It may end its connection when its work is done, say good-bye, or take no more requests. What
    is not ended when ``--graceful-timeout`` is over ends then.
    """

    def drain() -> None:
        """Finish: the service stops. Called once, and only if there is time to finish."""
