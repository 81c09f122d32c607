"""Telling a service manager how a service does: sd_notify(3), one datagram for each news.

Nothing is told where ``NOTIFY_SOCKET`` is not set.
"""

from __future__ import annotations

import contextlib
import os
import socket
from time import monotonic_ns
from typing import Any

from twisted.internet.task import LoopingCall

_PATIENCE = 1.0  # seconds that a manager with a full queue may take


class Manager:
    """The service manager that started this process, if it wants to know.

    Parameters:
        environment: ``os.environ``, or what takes its place.
    """

    def __init__(self, environment: Any = os.environ) -> None:
        name = environment.get("NOTIFY_SOCKET", "")
        # An abstract name is written with an at sign: systemd.exec(5).
        self._address = "\0" + name[1:] if name.startswith("@") else name
        self._watchdog_seconds = _watchdog_seconds(environment) if name else 0.0
        self._watchdog: LoopingCall | None = None

    def ready(self, status: str) -> None:
        """Tell that the service listens, and from now on that the reactor turns."""
        self._insist("READY=1", f"STATUS={status}")
        if self._watchdog_seconds and self._watchdog is None:
            self._watchdog = LoopingCall(self._tell, "WATCHDOG=1")
            # Twice in its time, as sd_watchdog_enabled(3) advises.
            self._watchdog.start(self._watchdog_seconds / 2)

    def status(self, status: str) -> None:
        """Tell a line for ``systemctl status``."""
        self._tell(f"STATUS={status}")

    def reloading(self) -> None:
        """Tell that it reloads; ``ready`` tells that it has."""
        self._insist("RELOADING=1", f"MONOTONIC_USEC={monotonic_ns() // 1000}")

    def stopping(self, status: str) -> None:
        """Tell that it stops."""
        self._insist("STOPPING=1", f"STATUS={status}")

    def _insist(self, *news: str) -> None:
        """Tell what a manager waits for, if it can take it within a moment."""
        self._tell(*news, patience=_PATIENCE)

    def _tell(self, *news: str, patience: float = 0.0) -> None:
        if not self._address:
            return
        # A manager that does not listen must not stop a service.
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as telling,
        ):
            telling.settimeout(patience)
            telling.sendto("\n".join(news).encode("utf-8", "surrogateescape"), self._address)


def _watchdog_seconds(environment: Any) -> float:
    """Return the time between two signs of life that is asked of this process; 0 for none."""
    whose = environment.get("WATCHDOG_PID", "")
    text = environment.get("WATCHDOG_USEC", "")
    if not text.isdecimal() or (whose and whose != str(os.getpid())):
        return 0.0
    return int(text) / 1e6
