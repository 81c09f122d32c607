"""Where this process listens for datagrams: to answer there would be to answer itself."""

from __future__ import annotations

import os

from sockservices.answering import is_local, unmapped

_EVERYWHERE = ("0.0.0.0", "::")


class OwnAddresses:
    """The addresses of all listeners for datagrams that are open."""

    def __init__(self) -> None:
        self._hosts: dict[int, list[str]] = {}  # by UDP port
        self._unix: list[bytes | tuple[int, int]] = []

    def add_udp(self, host: str, port: int) -> None:
        """Enter where a UDP port listens."""
        self._hosts.setdefault(port, []).append(_plain(host))

    def remove_udp(self, host: str, port: int) -> None:
        """Strike it out again."""
        hosts = self._hosts[port]
        hosts.remove(_plain(host))
        if not hosts:
            del self._hosts[port]

    def has_udp(self, host: str, port: int) -> bool:
        """Whether a UDP port listens there, at that address or at all of this machine's."""
        hosts = self._hosts.get(port)
        if hosts is None:  # mostly
            return False
        is_everywhere = any(each in hosts for each in _EVERYWHERE)
        return _plain(host) in hosts or (is_everywhere and is_local(host))

    def add_unix(self, identity: bytes | tuple[int, int]) -> None:
        """Enter a Unix socket: its abstract name, or the ``identity_of`` its file."""
        self._unix.append(identity)

    def remove_unix(self, identity: bytes | tuple[int, int]) -> None:
        """Strike it out again."""
        self._unix.remove(identity)

    def has_unix(self, identity: bytes | tuple[int, int]) -> bool:
        """Whether it is one of ours."""
        return identity in self._unix


own_addresses = OwnAddresses()
"""Those of this process, of whichever service."""


OURS = "this process listens there itself"
"""Why nothing is answered there."""


def identity_of(file: os.stat_result) -> tuple[int, int]:
    """Return what tells a file from all others, whatever its path."""
    return file.st_dev, file.st_ino


def _plain(host: str) -> str:
    return unmapped(host).partition("%")[0]  # without the link, which only some calls tell
