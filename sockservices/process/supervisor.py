"""Processes that serve on sockets which a supervisor passes on, as a service manager does.

A process reports by sd_notify(3) that it listens, and stops when its supervisor has gone.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import DatagramProtocol, Factory, ProcessProtocol
from twisted.python.failure import Failure

from sockservices.errors import DescriptionError
from sockservices.listening import Listener

SERVED = "SOCKSERVICES_RELOADED"
"""The environment variable that gives a serving process its endpoint descriptions."""

_SUPERVISOR = "SOCKSERVICES_SUPERVISOR"
_SUPERVISED = "SOCKSERVICES_SUPERVISED"
_SUSPENDED = "SOCKSERVICES_SUSPENDED"
_KINDS = ("tcp", "tcp6", "unix", "udp", "unixgram", "systemd", "systemd-datagram")
_LOOKS_EVERY = 1.0  # seconds between two checks that the supervisor is still running
_FIRST = 3  # the first file descriptor that is passed on: sd_listen_fds(3)

# LISTEN_PID must be the process ID of the serving process, which a shell knows before it executes
# it. Ctrl-C reaches all processes of a terminal, so SIGINT is ignored: the supervisor stops them.
_BECOME = (
    *("/bin/sh", "-c"),
    f'trap "" INT; LISTEN_PID=$$ {_SUPERVISED}=$$; export LISTEN_PID {_SUPERVISED}; exec "$@"',
    "sh",
)


def check_passable(listeners: Sequence[Listener]) -> None:
    """Raise ``DescriptionError`` for a listener whose socket cannot be passed on."""
    for each in listeners:
        if each.description.partition(":")[0].lower() not in _KINDS:
            raise DescriptionError(
                f"--reload does not support {each.description!r}, only {', '.join(_KINDS)}"
            )


def nobody_at(listener: Listener) -> Any:
    """Return a stand-in for the service, which only the serving processes have."""
    return DatagramProtocol() if listener.kind == "datagram" else _Nobody()


class _Nobody(Factory):
    """A stand-in for the factory, which only the serving processes have."""

    noisy = False

    def buildProtocol(self, addr: object) -> None:
        return None


class ServingProcess(ProcessProtocol):
    """One serving process, which may be starting or stopping.

    Parameters:
        folder: the directory for the socket that receives its reports.
        began_suspended: whether it starts suspended.
        ready: called when it listens.
        ended: called when it has exited.
    """

    def __init__(
        self,
        folder: str,
        began_suspended: bool,
        ready: Callable[[ServingProcess], None],
        ended: Callable[[ServingProcess], None],
    ) -> None:
        self.began_suspended = began_suspended
        self._name = os.path.join(folder, f"{id(self):x}")
        self._ready = ready
        self._ended = ended
        self._port: Any = None
        self.when_ended: Deferred[None] = Deferred()

    def start(
        self,
        reactor: Any,
        command: Sequence[str],
        folder: str,
        sockets: Sequence[tuple[Listener, int]],
    ) -> None:
        """Start the process; raise what the reactor raises.

        Parameters:
            reactor: an ``IReactorProcess`` and ``IReactorUNIXDatagram``.
            command: its command line.
            folder: its working directory.
            sockets: the listeners to serve on, each with its file descriptor.
        """
        self._port = reactor.listenUNIXDatagram(self._name, _News(self._heard))
        served = [
            f"{'systemd-datagram' if each.kind == 'datagram' else 'systemd'}:index={place}"
            for place, (each, _descriptor) in enumerate(sockets)
        ]
        passed = {_FIRST + place: descriptor for place, (_, descriptor) in enumerate(sockets)}
        environment = os.environ | {
            SERVED: " ".join(served),
            "LISTEN_FDS": str(len(served)),
            "LISTEN_FDNAMES": "",
            _SUPERVISOR: str(os.getpid()),
            _SUSPENDED: "1" if self.began_suspended else "",
            "NOTIFY_SOCKET": self._name,
        }
        try:
            reactor.spawnProcess(
                self,
                _BECOME[0],
                [*_BECOME, *command],
                env=environment,
                path=folder,
                childFDs={0: 0, 1: 1, 2: 2} | passed,
            )
        except BaseException:
            self._port.stopListening()
            raise

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process, if it is running."""
        if self.transport is not None and self.transport.pid:
            os.kill(self.transport.pid, number)

    def _heard(self, news: bytes) -> None:
        if b"READY=1" in news.split(b"\n"):
            self._ready(self)

    def processEnded(self, reason: Failure) -> None:  # noqa: N802 - Twisted's name
        """See ``IProcessProtocol``."""
        self._port.stopListening()
        self._ended(self)
        self.when_ended.callback(None)


class _News(DatagramProtocol):
    noisy = False

    def __init__(self, heard: Callable[[bytes], None]) -> None:
        self._heard = heard

    def datagramReceived(self, datagram: bytes, _addr: object) -> None:
        self._heard(datagram)


def is_supervised() -> bool:
    """Whether a supervisor started this process itself, and not one of its ancestors."""
    return os.environ.get(_SUPERVISED) == str(os.getpid())


def follow_supervisor(
    reactor: Any, *, suspend: Callable[[], None], stop: Callable[[], None]
) -> None:
    """Start suspended if the supervisor is, and stop when the supervisor has gone.

    Parameters:
        reactor: an ``IReactorTime``.
        suspend: suspends this process, which is about to serve.
        stop: stops this process.
    """
    supervisor = os.environ[_SUPERVISOR]
    if os.environ[_SUSPENDED]:
        suspend()

    def look() -> None:
        if str(os.getppid()) == supervisor:
            reactor.callLater(_LOOKS_EVERY, look)
        else:
            stop()

    look()
