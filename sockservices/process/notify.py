"""Reports to the service manager: sd_notify(3), one datagram for each change of state.

Nothing is sent if ``NOTIFY_SOCKET`` is not set.
"""

from __future__ import annotations

import os
import socket
import weakref
from collections import deque
from time import monotonic_ns
from typing import Any

from twisted.internet.task import LoopingCall

from sockservices.timer import Timer

_RETRY = 0.1  # seconds
_MOST = 16  # reports that wait for a manager that does not read


class Manager:
    """The service manager that started this process, if it wants reports.

    Create it before ``twistd`` forks: it reports the process ID of the background. It is never
    waited for: reports to a manager whose queue is full are sent later, in order.

    Parameters:
        reactor: an ``IReactorTime``.
        environment: ``os.environ``, or a mapping in its place.
    """

    def __init__(self, reactor: Any, environment: Any = os.environ) -> None:
        name = environment.get("NOTIFY_SOCKET", "")
        # An abstract name starts with an at sign: systemd.exec(5).
        self._address = "\0" + name[1:] if name.startswith("@") else name
        if name:
            # Kept open, because later all file descriptors may be in use.
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)
            weakref.finalize(self, self._socket.close)
        self._started = os.getpid()
        self._watchdog_seconds = _watchdog_seconds(environment) if name else 0.0
        self._watchdog: LoopingCall | None = None
        self._reactor = reactor
        self._unsent: deque[bytes] = deque(maxlen=_MOST)
        self._retry = Timer(reactor, self._send)

    def ready(self, status: str) -> None:
        """Report that the service listens, and start the watchdog's keep-alive reports."""
        main = [f"MAINPID={os.getpid()}"] if os.getpid() != self._started else []
        self._tell("READY=1", *main, f"STATUS={status}")
        if self._watchdog_seconds and self._watchdog is None:
            self._watchdog = LoopingCall(self._keep_alive)
            self._watchdog.clock = self._reactor
            # At half the interval, as sd_watchdog_enabled(3) recommends.
            self._watchdog.start(self._watchdog_seconds / 2)

    def status(self, status: str) -> None:
        """Report a line for ``systemctl status``."""
        self._tell(f"STATUS={status}")

    def reloading(self) -> None:
        """Report that the service is reloading; ``ready`` reports that it has finished."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={monotonic_ns() // 1000}")

    def stopping(self, status: str) -> None:
        """Report that the service is stopping."""
        self._tell("STOPPING=1", f"STATUS={status}")

    def _keep_alive(self) -> None:
        if not self._unsent:  # otherwise the next report does
            self._tell("WATCHDOG=1")

    def _tell(self, *news: str) -> None:
        if self._address:
            self._unsent.append("\n".join(news).encode("utf-8", "surrogateescape"))
            if not self._retry.is_running:
                self._send()

    def _send(self) -> None:
        try:
            while self._unsent:
                self._socket.sendto(self._unsent[0], self._address)
                self._unsent.popleft()
        except BlockingIOError:  # its queue is full
            self._retry.start(_RETRY)
        except OSError:  # a manager that does not listen must not break the service
            self._unsent.clear()


def _watchdog_seconds(environment: Any) -> float:
    """Return the watchdog interval that is set for this process; 0 for none."""
    whose = environment.get("WATCHDOG_PID", "")
    text = environment.get("WATCHDOG_USEC", "")
    if not text.isdecimal() or (whose and whose != str(os.getpid())):
        return 0.0
    return int(text) / 1e6
