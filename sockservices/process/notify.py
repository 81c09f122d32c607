"""Reports to the service manager: sd_notify(3), one datagram for each change of state.

Nothing is sent if ``NOTIFY_SOCKET`` is not set.
"""

from __future__ import annotations

import contextlib
import os
import socket
from time import monotonic_ns
from typing import Any

from twisted.internet.task import LoopingCall

_PATIENCE = 1.0  # seconds to wait for a manager whose queue is full


class Manager:
    """The service manager that started this process, if it wants reports.

    Create it before ``twistd`` forks: it reports the process ID of the background.

    Parameters:
        environment: ``os.environ``, or a mapping in its place.
    """

    def __init__(self, environment: Any = os.environ) -> None:
        name = environment.get("NOTIFY_SOCKET", "")
        # An abstract name starts with an at sign: systemd.exec(5).
        self._address = "\0" + name[1:] if name.startswith("@") else name
        self._started = os.getpid()
        self._watchdog_seconds = _watchdog_seconds(environment) if name else 0.0
        self._watchdog: LoopingCall | None = None

    def ready(self, status: str) -> None:
        """Report that the service listens, and start the watchdog's keep-alive reports."""
        main = [f"MAINPID={os.getpid()}"] if os.getpid() != self._started else []
        self._insist("READY=1", *main, f"STATUS={status}")
        if self._watchdog_seconds and self._watchdog is None:
            self._watchdog = LoopingCall(self._tell, "WATCHDOG=1")
            # At half the interval, as sd_watchdog_enabled(3) recommends.
            self._watchdog.start(self._watchdog_seconds / 2)

    def status(self, status: str) -> None:
        """Report a line for ``systemctl status``."""
        self._tell(f"STATUS={status}")

    def reloading(self) -> None:
        """Report that the service is reloading; ``ready`` reports that it has finished."""
        self._insist("RELOADING=1", f"MONOTONIC_USEC={monotonic_ns() // 1000}")

    def stopping(self, status: str) -> None:
        """Report that the service is stopping."""
        self._insist("STOPPING=1", f"STATUS={status}")

    def _insist(self, *news: str) -> None:
        """Report what a manager waits for, and give a full queue a moment to drain."""
        self._tell(*news, patience=_PATIENCE)

    def _tell(self, *news: str, patience: float = 0.0) -> None:
        if not self._address:
            return
        # A manager that does not listen must not break the service.
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as telling,
        ):
            telling.settimeout(patience)
            telling.sendto("\n".join(news).encode("utf-8", "surrogateescape"), self._address)


def _watchdog_seconds(environment: Any) -> float:
    """Return the watchdog interval that is set for this process; 0 for none."""
    whose = environment.get("WATCHDOG_PID", "")
    text = environment.get("WATCHDOG_USEC", "")
    if not text.isdecimal() or (whose and whose != str(os.getpid())):
        return 0.0
    return int(text) / 1e6
