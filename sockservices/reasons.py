"""Why a connection has ended, or a connection or a datagram was refused: the words for it."""

from __future__ import annotations

from typing import Literal, TypeAlias

Reason: TypeAlias = Literal[
    "closed",
    "lost",
    "aborted",
    "stop",
    "denied",
    "user",
    "max-connections",
    "max-per-source",
    "rate",
    "rate-per-source",
    "idle-timeout",
    "max-time",
    "max-write-buffer",
    "handshake-timeout",
    "proxy-allow-from",
    "proxy-header",
    "service",
]

REASONS: dict[Reason, str] = {
    "closed": "it ended in order, by either side",
    "lost": "the network or the peer's system broke it off",
    "aborted": "the service broke it off",
    "stop": "it was left when the time of a stop was over (--graceful-timeout, --flush)",
    "denied": "its network is not admitted (--allow, --deny), or is not any more since SIGHUP",
    "user": "its user is not admitted (--allow-user, --allow-group)",
    "max-connections": "there were as many as there may be",
    "max-per-source": "there were as many as there may be from its source",
    "rate": "too many came in the time of --rate",
    "rate-per-source": "too many came from its source in the time of --rate-per-source",
    "idle-timeout": "its peer sent nothing for too long",
    "max-time": "it lasted too long",
    "max-write-buffer": "its peer did not read, and too much waited to be sent",
    "handshake-timeout": "its TLS handshake, or its PROXY header, took too long",
    "proxy-allow-from": "it did not come from a proxy, as it has to with --proxy-protocol",
    "proxy-header": "it did not begin with a PROXY header that can be understood",
    "service": "the service did not take it: its factory built no protocol, or failed",
}
