"""Asking the parts about each datagram that the listeners of a host receive."""

from __future__ import annotations

from typing import Any

from twisted.logger import Logger

from sockservices.connections.ledger import Ledger
from sockservices.connections.lifecycle import Hooks
from sockservices.errors import ListenError
from sockservices.log_limit import LogLimit
from sockservices.printable import address_of_datagram
from sockservices.transports.datagram_port import DatagramPort


class DatagramAdmission:
    """The datagram ports of a host, which drop what the parts refuse.

    Parameters:
        ledger: records the ports, and what is refused.
        hooks: the hooks of the parts.
        log: the service's log.
        log_limit: limits what the ports log.
    """

    def __init__(self, ledger: Ledger, hooks: Hooks, log: Logger, log_limit: LogLimit) -> None:
        self._ledger = ledger
        self._hooks = hooks
        self._log = log
        self._log_limit = log_limit
        self._ports: dict[DatagramPort, str] = {}  # with the descriptions

    def add(self, port: Any, description: str) -> None:
        """Ask about the datagrams of a port from now on.

        Parameters:
            port: a port that has begun to listen.
            description: the listener's endpoint description.

        Raises ``ListenError`` for a foreign port, whose datagrams nobody can be asked about, if
        there is something to ask.
        """
        if port.can_limit:
            self._ledger.add_port(port)
            port.service_log, port.log_limit = self._log, self._log_limit
            self._ports[port] = description
            self._ask(port, description)
        elif self._hooks.ask_datagram:
            raise ListenError(
                f"cannot listen on {description}: "
                "the datagrams of such a listener cannot be limited"
            )

    def discard(self, port: Any) -> None:
        """Forget a port that has closed."""
        self._ledger.remove_port(port)
        self._ports.pop(port, None)

    def refresh(self) -> None:
        """Use the current hooks after settings have changed."""
        for port, description in self._ports.items():
            self._ask(port, description)

    def _ask(self, port: DatagramPort, description: str) -> None:
        def refuses(peer: Any) -> bool:
            known = address_of_datagram(peer)
            try:
                reason = self._hooks.ask_datagram(known)
            except Exception:  # in a part: it must not end the listener
                self._log.failure("a part failed on a datagram")
                return True
            if reason is not None:
                self._ledger.refuse(description, known, reason)
            return reason is not None

        port.refuses = refuses if self._hooks.ask_datagram else None
