"""Sockets that a service manager has bound and passes on: sd_listen_fds(3).

They still belong to the manager: their files keep their modes and are never removed, and the
backlog is left for the process that comes after us.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs

from sockservices.converters import one_of, whole_number
from sockservices.errors import DescriptionError
from sockservices.listening.descriptions import Description, not_empty
from sockservices.printable import escaped, system_reason
from sockservices.transports.polling import is_hung_up

_DOMAINS = {
    "INET": socket.AF_INET,
    "INET6": socket.AF_INET6,
    "UNIX": socket.AF_UNIX,
}
_PARTS: Mapping[str, Callable[[str], Any]] = {
    "domain": one_of(*_DOMAINS),  # Twisted requires it; we ask the socket
    "index": whole_number(least=0),
    "name": not_empty,
}
_FIRST = 3  # SD_LISTEN_FDS_START
_MOST = 1 << 16  # more file descriptors than anybody passes
_KINDS = {socket.SOCK_STREAM: "stream", socket.SOCK_DGRAM: "datagram"}
_KIND_OF = {"systemd": "stream", "systemd-datagram": "datagram"}
INHERITING = tuple(_KIND_OF)
"""The types of descriptions for these sockets."""


@attrs.frozen
class Inherited:
    """A file descriptor that was passed on, and its name."""

    descriptor: int
    name: str


def inherited_sockets(environment: Mapping[str, str] | None = None) -> list[Inherited]:
    """Return the sockets that were passed to this process, in the manager's order.

    Parameters:
        environment: has ``LISTEN_PID``, ``LISTEN_FDS`` and ``LISTEN_FDNAMES``; ``None`` for the
            environment that this process was started with.
    """
    given = _environment_at_start() if environment is None else environment
    count = given.get("LISTEN_FDS", "")
    if given.get("LISTEN_PID") != str(os.getpid()) or not count.isdecimal():
        return []
    names = given.get("LISTEN_FDNAMES", "").split(":")
    descriptors = range(_FIRST, _FIRST + min(int(count), _MOST))
    if names == [""] or len(names) != len(descriptors):
        names = ["unknown"] * len(descriptors)  # as in sd_listen_fds_with_names(3)
    return [Inherited(*each) for each in zip(descriptors, names, strict=True)]


def _environment_at_start() -> Mapping[str, str]:
    # Twisted removes LISTEN_PID and LISTEN_FDS from os.environ when its endpoints are imported.
    with contextlib.suppress(OSError):
        raw = Path("/proc/self/environ").read_bytes().split(b"\0")  # proc(5)
        pairs = (os.fsdecode(each).partition("=") for each in raw)
        return {name: value for name, equals, value in pairs if equals}
    return os.environ


@attrs.frozen
class InheritedSocket:
    """A socket that a description names, checked to be of the right kind."""

    descriptor: int
    family: int
    address: Any
    """The address that getsockname(2) returns."""

    def duplicate(self) -> socket.socket:
        """Return a duplicate; raise ``OSError`` if another process has shut the socket down."""
        duplicate = socket.socket(fileno=os.dup(self.descriptor))
        if is_hung_up(duplicate.fileno()):
            duplicate.close()
            raise OSError(errno.ESHUTDOWN, os.strerror(errno.ESHUTDOWN))
        return duplicate

    def listen_again(self, backlog: int) -> None:
        """Listen, if another process has shut the socket down; raise ``OSError`` if that fails.

        A Twisted process that shares the socket does that when it ends: twisted#10261.
        """
        with socket.socket(fileno=os.dup(self.descriptor)) as same:
            if not same.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                try:
                    same.bind(self.address)  # it loses a port that the kernel chose
                except OSError as error:
                    if error.errno != errno.EINVAL:  # it is still bound
                        raise
                same.listen(backlog)
        self.duplicate().close()


def inherited_socket(
    description: Description, sockets: Callable[[], list[Inherited]] = inherited_sockets
) -> InheritedSocket:
    """Return the socket that ``systemd:index=0`` or ``systemd-datagram:name=x`` means.

    Parameters:
        description: has an index or a name; of several sockets with that name, it means the first.
        sockets: returns the sockets that were passed to this process.

    Raises ``DescriptionError`` if no such socket was passed on, or it is of another kind.
    """
    text, kind = description.text, _KIND_OF[description.prefix]
    descriptor = sockets()[indexes(description, sockets)[0]].descriptor
    try:
        with socket.socket(fileno=os.dup(descriptor)) as found:
            family, is_kind, address = found.family, found.type, found.getsockname()
            listens = found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise DescriptionError(f"{text!r} is not a socket: {system_reason(error)}") from None
    was = _KINDS.get(is_kind, "packet")
    if was != kind:
        right = {"stream": "systemd:", "datagram": "systemd-datagram:"}.get(was)
        hint = f"; write {right}" if right else ""
        raise DescriptionError(f"{text!r} is a {was} socket, not a {kind} socket{hint}")
    if kind == "stream" and not listens:
        raise DescriptionError(f"{text!r} does not listen: its unit needs Accept=no")
    domain = {each: name for name, each in _DOMAINS.items()}.get(family)
    if domain is None:
        raise DescriptionError(f"{text!r} is of address family {int(family)}: neither IP nor Unix")
    if description.values(_PARTS).get("domain", domain) != domain:
        raise DescriptionError(f"in {text!r}, domain: the socket's is {domain}")
    os.set_inheritable(descriptor, False)  # not for programs that we may start
    os.set_blocking(descriptor, False)
    return InheritedSocket(descriptor, family, address)


def indexes(
    description: Description, sockets: Callable[[], list[Inherited]] = inherited_sockets
) -> list[int]:
    """Return the indexes of the sockets that a description means, at least one.

    All sockets of a unit have one name, so a name means those of the right kind.

    Parameters:
        description: has an index or a name.
        sockets: returns the sockets that were passed to this process.

    Raises ``DescriptionError`` if no such socket was passed on.
    """
    text, passed = description.text, sockets()
    values = description.values(_PARTS)
    if ("index" in values) == ("name" in values):
        raise DescriptionError(f"{text!r} needs either index=NUMBER or name=NAME")
    if not passed:
        raise DescriptionError(
            f"{text!r}: no socket was passed to this process (LISTEN_FDS is not set, or set for "
            "another process): start it with its systemd unit, or with systemd-socket-activate"
        )
    if "index" in values:
        if values["index"] >= len(passed):
            raise DescriptionError(
                f"in {text!r}, index: the sockets that were passed are 0 to {len(passed) - 1}"
            )
        return [values["index"]]
    named = [index for index, each in enumerate(passed) if each.name == values["name"]]
    if not named:
        names = ", ".join(escaped(each.name) for each in passed)
        raise DescriptionError(f"in {text!r}, name: the sockets that were passed are {names}")
    kind, family = _KIND_OF[description.prefix], _DOMAINS.get(values.get("domain", ""))
    return [each for each in named if _is_a(kind, family, passed[each].descriptor)] or named


def _is_a(kind: str, family: int | None, descriptor: int) -> bool:
    try:
        with socket.socket(fileno=os.dup(descriptor)) as found:
            return _KINDS.get(found.type) == kind and family in (None, found.family)
    except OSError:  # not a socket
        return False


def untaken(
    descriptions: Iterable[str], sockets: Callable[[], list[Inherited]] = inherited_sockets
) -> list[tuple[str, str]]:
    """Return a description and the name of each socket that none of these descriptions means.

    Parameters:
        descriptions: the descriptions of all listeners of this process.
        sockets: returns the sockets that were passed to this process.
    """
    taken: set[int] = set()
    for each in map(Description.parse, descriptions):
        if each.prefix == "haproxy":  # which passes its arguments on
            each = attrs.evolve(each, prefix=each.positional[0], positional=each.positional[1:])
        if each.prefix in INHERITING:
            taken.update(indexes(each, sockets))
    return [
        (f"{_prefix_for(each.descriptor)}:index={index}", each.name)
        for index, each in enumerate(sockets())
        if index not in taken
    ]


def _prefix_for(descriptor: int) -> str:
    return "systemd-datagram" if _is_a("datagram", None, descriptor) else "systemd"
