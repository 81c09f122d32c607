"""Datagrams that wait to be sent: in order for each peer, within limits that peers share fairly.

One peer may use all the room while no other needs it. When it is full, the peer that uses most of
it loses its newest datagram, so that a peer that does not read takes no room from the others.
"""

from __future__ import annotations

from collections import deque
from typing import Any

UNSENT_DATAGRAMS = 1024
UNSENT_BYTES = 1 << 20


class _Queue:
    """The datagrams for one peer."""

    __slots__ = ("datagrams", "size")

    def __init__(self) -> None:
        # Peers that are equal may have asked different addresses.
        self.datagrams: deque[tuple[bytes, Any]] = deque()
        self.size = 0


class Unsent:
    """All datagrams of a port that wait to be sent."""

    def __init__(self) -> None:
        self._queues: dict[Any, _Queue] = {}
        self.count = 0
        """How many they are."""
        self._size = 0

    def __contains__(self, peer: Any) -> bool:
        """Return whether any datagram waits for a peer."""
        return peer in self._queues

    @property
    def peers(self) -> list[Any]:
        """The peers that datagrams wait for."""
        return list(self._queues)

    def add(self, datagram: bytes, peer: Any) -> list[Any]:
        """Add a datagram; return the peer of each that lost its place, perhaps this one."""
        queue = self._queues.setdefault(peer, _Queue())
        queue.datagrams.append((datagram, peer))
        self._account(queue, 1, len(datagram))
        lost = []
        while self.count > UNSENT_DATAGRAMS:
            lost.append(self._drop_newest(max(self._queues, key=self._length)))
        while self._size > UNSENT_BYTES:
            lost.append(self._drop_newest(max(self._queues, key=self._bytes)))
        return lost

    def oldest(self, peer: Any) -> tuple[bytes, Any] | None:
        """Return the datagram to send next to a peer, and the peer as it was given with it."""
        queue = self._queues.get(peer)
        return queue.datagrams[0] if queue is not None else None

    def remove_oldest(self, peer: Any) -> None:
        """Remove the datagram that was sent."""
        queue = self._queues[peer]
        self._removed(peer, queue, queue.datagrams.popleft())

    def _drop_newest(self, peer: Any) -> Any:
        queue = self._queues[peer]
        self._removed(peer, queue, queue.datagrams.pop())
        return peer

    def _removed(self, peer: Any, queue: _Queue, datagram: tuple[bytes, Any]) -> None:
        self._account(queue, -1, -len(datagram[0]))
        if not queue.datagrams:
            del self._queues[peer]

    def _account(self, queue: _Queue, count: int, size: int) -> None:
        queue.size += size
        self.count += count
        self._size += size

    def _length(self, peer: Any) -> int:
        return len(self._queues[peer].datagrams)

    def _bytes(self, peer: Any) -> int:
        return self._queues[peer].size
