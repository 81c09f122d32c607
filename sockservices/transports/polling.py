"""Polling one file descriptor, without waiting."""

from __future__ import annotations

import select


def is_readable(descriptor: int) -> bool:
    """Whether data can be read, or a connection accepted."""
    return _has(descriptor, select.POLLIN)


def is_writable(descriptor: int) -> bool:
    """Whether the kernel would take data to send."""
    return _has(descriptor, select.POLLOUT)


def _has(descriptor: int, event: int) -> bool:
    poller = select.poll()
    poller.register(descriptor, event)
    return bool(poller.poll(0))
