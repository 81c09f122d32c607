"""Who has the address that bind(2) refuses with EADDRINUSE: this process, or another one."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import sys
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

from sockservices.printable import quoted

_OPEN_FILES = ("/proc/self/fd", "/dev/fd")  # proc(5); the BSDs and macOS have only the second
_LISTENS = "0A"  # TCP_LISTEN, in the kernel's include/net/tcp_states.h
_IN_USE = "address already in use"

# A host and a port, the path of a Unix socket, or a null byte and an abstract name.
Address = tuple[str, int] | bytes


def reason_in_use(kind: socket.SocketKind, address: Address) -> str:
    """Return why an address is in use, and who has it if the system tells.

    Parameters:
        kind: the kind of socket that could not be bound.
        address: the address that it was to have.
    """
    if isinstance(address, bytes):
        # A path or name without a process would not be in use.
        who = "this process" if _has_unix(address) else "another process"
        return f"{_IN_USE}: {who} listens there"
    host, port = address
    try:
        wanted = _read(host)
    except ValueError:  # a host name, which only foreign endpoints leave to bind(2)
        return _IN_USE
    for own_host, own_port in _own_ip_addresses(kind):
        if own_port == port and _overlap(_read(own_host), wanted):
            shown = f"{'tcp' if kind == socket.SOCK_STREAM else 'udp'}:{quoted(own_host)}:{port}"
            apart = _read(own_host).version != wanted.version
            advice = "; ipv6only=yes would keep IPv4 and IPv6 apart" if apart else ""
            return f"{_IN_USE}: this process itself has {shown} open{advice}"
    found = _listening_on_this_machine(kind)
    if any(other_port == port and _overlap(other, wanted) for other, other_port in found):
        return f"{_IN_USE}: another process listens there"
    return _IN_USE  # by connections that outlive their process, or as far as the system tells


def _read(host: str) -> IPv4Address | IPv6Address:
    return ip_address(host.partition("%")[0] or "0.0.0.0")


def _overlap(one: IPv4Address | IPv6Address, other: IPv4Address | IPv6Address) -> bool:
    return one == other or one.is_unspecified or other.is_unspecified


def _has_unix(address: bytes) -> bool:
    for each in _own_sockets(socket.AF_UNIX):
        name = os.fsencode(each.getsockname())
        if name == address:
            return True
        with contextlib.suppress(OSError, ValueError):  # no file, or an abstract name
            if os.path.samefile(name, address):
                return True
    return False


def _own_ip_addresses(kind: socket.SocketKind) -> Iterator[tuple[str, int]]:
    for each in _own_sockets(socket.AF_INET, socket.AF_INET6):
        if each.type == kind:
            yield each.getsockname()[:2]


def _own_sockets(*families: socket.AddressFamily) -> Iterator[socket.socket]:
    folder = next(filter(os.path.isdir, _OPEN_FILES), None)
    for name in os.listdir(folder) if folder else ():
        with contextlib.suppress(OSError):  # closed by now, such as that of the listing itself
            if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                with socket.socket(fileno=os.dup(int(name))) as found:
                    if found.family in families:
                        yield found


def _listening_on_this_machine(
    kind: socket.SocketKind,
) -> Iterator[tuple[IPv4Address | IPv6Address, int]]:
    protocol = "tcp" if kind == socket.SOCK_STREAM else "udp"
    for name in (protocol, f"{protocol}6"):
        with contextlib.suppress(OSError):  # another system than Linux, or no IPv6
            for line in Path("/proc/net", name).read_text().splitlines()[1:]:
                _slot, local, _remote, state = line.split(maxsplit=4)[:4]
                if protocol == "udp" or state == _LISTENS:
                    host, _colon, port = local.partition(":")
                    yield _in_hexadecimal(host), int(port, 16)


def _in_hexadecimal(host: str) -> IPv4Address | IPv6Address:
    """Read an address of proc(5): its words are in the byte order of the machine."""
    raw = bytes.fromhex(host)
    words = [raw[start : start + 4] for start in range(0, len(raw), 4)]
    if sys.byteorder == "little":
        words = [word[::-1] for word in words]
    return ip_address(b"".join(words))
