"""Errors of a port's own socket: which of them the port survives, and which mean that it is gone.

Twisted's ports close for good at any error of recvfrom(2), also at one that an ICMP message has
caused, and keep the reactor busy at some errors of accept(2). Reactors that poll close a port with
a pending error without asking it: twisted#5377.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.logger import Logger
from twisted.python.failure import Failure

from sockservices.printable import escaped, system_reason
from sockservices.timer import cancel
from sockservices.transports.hosted_port import HostedPort
from sockservices.transports.polling import is_hung_up

_PAUSE = 0.5  # seconds

# The connection or datagram that they concern is gone with them: accept(2), udp(7), icmp(7).
_OF_ONE_PEER = {
    getattr(errno, name, None)  # not every system has all of them
    for name in (
        *("ECONNABORTED", "ECONNREFUSED", "ECONNRESET", "EHOSTDOWN", "EHOSTUNREACH", "EMSGSIZE"),
        *("ENETDOWN", "ENETUNREACH", "ENONET", "ENOPROTOOPT", "EOPNOTSUPP", "EPROTO"),
    )
}

_CLOSED = {errno.EBADF, errno.ENOTSOCK}
_SHUT_DOWN = {errno.EINVAL, errno.ESHUTDOWN}  # accept(2): it does not listen (any more)

_log = Logger(namespace="sockservices")


class SurvivingPort(HostedPort):
    """A port that survives errors of its socket, and tells if it is gone.

    To be mixed into Twisted's ports, before them.
    """

    reactor: Any
    socket: Any
    _resumption: Any = None  # the delayed call that ends a pause

    def _survive(self, error: OSError) -> OSError | None:
        """Handle an error; return it if the socket is gone, for ``doRead`` to return."""
        if error.errno in _CLOSED | _SHUT_DOWN:
            return error
        if self.on_error is not None:
            self.on_error(error)
        else:
            _log.warn(
                "{listener} continues after an error: {reason}",
                listener=self.description,
                reason=system_reason(error),
            )
        if error.errno not in _OF_ONE_PEER:
            self._pause()
        return None

    def _if_shut_down(self) -> OSError | None:
        """Return an error if the socket was shut down; to ask if it is readable, but has nothing.

        It would wake the reactor again and again.
        """
        if is_hung_up(self.fileno()):
            return OSError(errno.ESHUTDOWN, os.strerror(errno.ESHUTDOWN))
        return None

    def _is_only_told_of_an_error(self, reason: Failure | None) -> bool:
        """Whether a reactor closes the port only because its socket has an error to report."""
        # Reactors give this reason for an event, and another one when they end themselves.
        return (
            reason is not None
            and reason.check(ConnectionDone) is not None
            and not is_hung_up(self.fileno())
        )

    def _pending_error(self) -> OSError | None:
        """Return the error that the socket has to report, which it forgets."""
        number = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        return OSError(number, os.strerror(number)) if number else None

    def _pause(self) -> None:
        """Read nothing for a moment: an error that stays would wake the reactor for nothing."""
        self.stopReading()
        self._resumption = self.reactor.callLater(_PAUSE, self.startReading)

    def _forget_resumption(self) -> None:
        resumption, self._resumption = self._resumption, None
        cancel(resumption)

    def _why_lost(self, reason: Failure | None) -> str:
        """Return why it closes, before it does."""
        error = reason.value if reason is not None else None
        if self.fileno() < 0 or (isinstance(error, OSError) and error.errno in _CLOSED):
            return "its file descriptor was closed"
        if isinstance(error, (ConnectionDone, ConnectionLost)) or (
            isinstance(error, OSError) and error.errno in _SHUT_DOWN
        ):
            return "its socket was shut down"
        return escaped(f"{type(error).__name__}: {error}")

    def _tell_it_has_closed(self, why: str | None) -> None:
        self._forget_resumption()
        if self.on_closed is not None:
            self.on_closed(why)
