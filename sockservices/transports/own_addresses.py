"""The addresses where this process listens for datagrams, so that it never answers itself."""

from __future__ import annotations

import os

from sockservices.answering import is_local, unmapped, why_no_answer

_EVERYWHERE = ("0.0.0.0", "::")
_MOST_KNOWN = 4096  # peers


class OwnAddresses:
    """The addresses of all open datagram listeners."""

    def __init__(self) -> None:
        self._hosts: dict[int, list[str]] = {}  # by UDP port
        self._answerable: set[tuple[str, int]] = set()
        self.has_answered = self._answerable.__contains__
        """Whether a UDP peer is one of the last for which ``why_no_answer`` knew no reason."""
        self._unix: list[bytes | tuple[int, int]] = []

    def add_udp(self, host: str, port: int) -> None:
        """Add the address of a UDP port."""
        self._answerable.clear()
        self._hosts.setdefault(port, []).append(_plain(host))

    def remove_udp(self, host: str, port: int) -> None:
        """Remove the address of a UDP port."""
        self._answerable.clear()
        hosts = self._hosts[port]
        hosts.remove(_plain(host))
        if not hosts:
            del self._hosts[port]

    def has_udp(self, host: str, port: int) -> bool:
        """Whether a UDP port listens there, on that address or on all of this machine's."""
        hosts = self._hosts.get(port)
        if hosts is None:  # the common case
            return False
        is_everywhere = any(each in hosts for each in _EVERYWHERE)
        return _plain(host) in hosts or (is_everywhere and is_local(host))

    def why_no_answer(self, peer: tuple[str, int]) -> str | None:
        """Return the reason not to answer a UDP peer, or ``None`` if there is none."""
        reason = why_no_answer(peer)
        if reason is None and self.has_udp(*peer):
            reason = OURS
        if reason is None:
            if len(self._answerable) >= _MOST_KNOWN:
                self._answerable.clear()
            self._answerable.add(peer)
        return reason

    def add_unix(self, identity: bytes | tuple[int, int]) -> None:
        """Add a Unix socket, by its abstract name or the ``identity_of`` its file."""
        self._unix.append(identity)

    def remove_unix(self, identity: bytes | tuple[int, int]) -> None:
        """Remove a Unix socket."""
        self._unix.remove(identity)

    def has_unix(self, identity: bytes | tuple[int, int]) -> bool:
        """Whether a Unix socket is one of ours."""
        return identity in self._unix


own_addresses = OwnAddresses()
"""The addresses of this process, of all its services."""


OURS = "this process listens there itself"
"""The reason not to answer there."""


def identity_of(file: os.stat_result) -> tuple[int, int]:
    """Return what identifies a file, whatever its path."""
    return file.st_dev, file.st_ino


def _plain(host: str) -> str:
    return unmapped(host).partition("%")[0]  # without the zone, which only some calls report
