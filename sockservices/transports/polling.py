"""Polling one file descriptor, without waiting."""

from __future__ import annotations

import select


def is_readable(descriptor: int) -> bool:
    """Whether data can be read, or a connection accepted."""
    return _has(descriptor, select.POLLIN)


def is_writable(descriptor: int) -> bool:
    """Whether the kernel would take data to send."""
    return _has(descriptor, select.POLLOUT)


def is_hung_up(descriptor: int) -> bool:
    """Whether both directions are shut down, or the file descriptor is closed."""
    return descriptor < 0 or _has(descriptor, 0, select.POLLHUP | select.POLLNVAL)


def _has(descriptor: int, event: int, among: int = ~0) -> bool:
    poller = select.poll()
    poller.register(descriptor, event)
    return any(found & among for _descriptor, found in poller.poll(0))
