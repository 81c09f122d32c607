"""``--reload``: restart a service when its source changes, for use in development.

A supervisor holds the listening sockets and passes them on, as a service manager does: to a process
that serves, and after a change to a new one. It asks the old process to stop only when the new one
listens, so a change that cannot be loaded does no harm, and no connection is refused meanwhile.
"""

from __future__ import annotations

import importlib.util
import signal
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import attrs
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.logger import Logger
from twisted.python.failure import Failure

from sockservices.converters import yes_or_no
from sockservices.host.ports import Ports
from sockservices.listening import Listening, listener
from sockservices.process.supervisor import ServingProcess, check_passable, nobody_at
from sockservices.requirement import pip_install
from sockservices.settings import Settings, setting
from sockservices.sink import reopen_all

_DEBOUNCE = 200  # milliseconds within which changes count as one


def _if_watched(value: str | bool) -> bool:
    wanted = yes_or_no(value)
    if wanted and importlib.util.find_spec("watchfiles") is None:
        raise ValueError(f"needs watchfiles: {pip_install('reload')}")
    return wanted


@attrs.frozen
class Reloading(Settings):
    """Settings for how the process runs."""

    heading = "Running"

    reload: bool = setting(
        default=False,
        converter=_if_watched,
        changeable=False,
        help="Restart on the same sockets when a source file changes.",
    )


class ReloadingService(Service):
    """A service that serves in a child process, and starts a new one after each change.

    Parameters:
        listening: where to listen; only plain sockets, which can be passed on.
        command: the command line of the processes.
        folder: their working directory, to which relative names in the command refer.
        reactor: an ``IReactorProcess``, ``IReactorThreads``, ``IReactorUNIXDatagram`` and more.
        on_failure: called with one line when it cannot start.

    Raises ``DescriptionError``.
    """

    def __init__(
        self,
        listening: Listening,
        command: Sequence[str],
        folder: str,
        reactor: Any,
        on_failure: Callable[[str], None],
    ) -> None:
        self.listeners = [listener(reactor, each, listening) for each in listening.listen]
        check_passable(self.listeners)
        self._command = command
        self._where = folder
        self._reactor = reactor
        self._on_failure = on_failure
        self._log = Logger(namespace="sockservices")
        self._ports = Ports(self.listeners, self._log)
        self._serving: ServingProcess | None = None
        self._starting: ServingProcess | None = None
        self._ending: list[ServingProcess] = []
        self._is_suspended = False
        self._signals_when_ready: dict[signal.Signals, None] = {}
        self._has_begun = False
        self._over = Event()
        self._news: tempfile.TemporaryDirectory[str] | None = None

    def privilegedStartService(self) -> None:
        """Listen, start the first process, and watch."""
        super().privilegedStartService()  # type: ignore[no-untyped-call]
        self._begin()

    def startService(self) -> None:
        """Do the same, if ``privilegedStartService`` was not called before, as by ``twist``."""
        super().startService()  # type: ignore[no-untyped-call]
        if self._news is None and not self._over.is_set():
            self._begin()

    def _begin(self) -> None:
        try:
            self._news = tempfile.TemporaryDirectory(prefix="sockservices-")
        except OSError as error:
            self._over.set()
            self._on_failure(f"--reload cannot create a temporary directory: {error.strerror}")
            return
        self._ports.pause("serving")  # the serving process accepts, not this one
        self._ports.listen(
            lambda number: nobody_at(self.listeners[number]), lambda _number, _port: None
        ).addCallbacks(self._all_listen, self._not_all_listen)

    def _all_listen(self, _result: object) -> None:
        self._reactor.callInThread(self._watch, source_folders())

    def _not_all_listen(self, failure: Failure) -> None:
        if not failure.check(CancelledError):  # it was stopped meanwhile
            self._on_failure(failure.getErrorMessage())

    def _watch(self, folders: list[Path]) -> None:
        over = _Asked(self._over, partial(self._reactor.callFromThread, self._watches, folders))
        reason: object = "the watcher has stopped"
        try:
            from watchfiles import PythonFilter, watch

            for _changes in watch(
                *folders,
                watch_filter=PythonFilter(),
                debounce=_DEBOUNCE,
                stop_event=over,
                raise_interrupt=False,
                ignore_permission_denied=True,
            ):
                self._reactor.callFromThread(self._changed)
        except BaseException as error:  # a panic in the library is not an Exception
            reason = error
        if not self._over.is_set():
            self._reactor.callFromThread(self._cannot_watch, reason)

    def _watches(self, folders: list[Path]) -> None:
        self._log.info("watching {folders}", folders=", ".join(map(str, folders)))
        self._start_first()

    def _cannot_watch(self, reason: object) -> None:
        self._log.error("no longer watching for changes: {reason}", reason=reason)
        self._start_first()

    def _start_first(self) -> None:
        """Load the code as it is now: every later change will be seen."""
        if self._has_begun or self._over.is_set():
            return
        self._has_begun = True
        try:
            self._start_another()
        except Exception as error:
            self._on_failure(f"cannot start a process: {error}")

    def _changed(self) -> None:
        if self._over.is_set():
            return
        self._log.info("the source has changed: starting a new process")
        if self._starting is not None:  # it serves nobody yet, and may never do so
            self._end(self._starting, signal.SIGKILL)
            self._starting = None
        try:
            self._start_another()
        except Exception as error:
            self._log.error("cannot start a process: {reason}", reason=error)

    def _start_another(self) -> None:
        assert self._news is not None
        starting = ServingProcess(self._news.name, self._is_suspended, self._ready, self._ended)
        descriptors = [port.fileno() for port in self._ports.open]
        sockets = list(zip(self.listeners, descriptors, strict=True))
        starting.start(self._reactor, self._command, self._where, sockets)
        self._starting = starting
        self._signals_when_ready = {}

    def _ready(self, process: ServingProcess) -> None:
        if process is not self._starting or self._over.is_set():
            return
        old, self._serving, self._starting = self._serving, process, None
        self._log.info("the code is loaded")
        if self._is_suspended != process.began_suspended:
            process.signal(signal.SIGUSR2)
        for each in self._signals_when_ready:
            process.signal(each)
        if old is not None:
            self._end(old, signal.SIGTERM)

    def _ended(self, process: ServingProcess) -> None:
        if process in self._ending:
            self._ending.remove(process)
        if process is self._serving:
            self._serving = None
            if not self._over.is_set():
                self._log.error("the service has exited; it will restart after the next change")
        if process is self._starting:
            self._starting = None
            if self._over.is_set():
                return
            kept = "the old code keeps serving" if self._serving else "nothing is served"
            self._log.error("the change could not be loaded: {what}", what=kept)

    def _end(self, process: ServingProcess, number: signal.Signals) -> None:
        self._ending.append(process)
        process.signal(number)

    def stopService(self) -> Deferred[Any]:
        """Stop watching, and let the processes stop gracefully."""
        super().stopService()  # type: ignore[no-untyped-call]
        self._over.set()
        processes = [each for each in (self._serving, self._starting, *self._ending) if each]
        ended = DeferredList([each.when_ended for each in processes])
        _signal(signal.SIGTERM, self._serving, self._starting)  # the others are already stopping
        # Not before: to the processes, it would look like the loss of their listeners.
        return ended.addCallback(lambda _results: self._ports.close()).addCallback(self._stopped)

    def _stopped(self, _result: None) -> None:
        if self._news is not None:
            self._news.cleanup()
            self._news = None

    def suspend_or_resume(self) -> None:
        """Suspend or resume the serving process, and those that replace it."""
        self._is_suspended = not self._is_suspended
        _signal(signal.SIGUSR2, self._serving)

    def reload(self) -> None:
        """Have the serving and the stopping processes reload their files."""
        self._renew(signal.SIGHUP)

    def reopen(self) -> None:
        """Open the log again, as after a log rotation, and have all processes do so."""
        self._renew(signal.SIGUSR1)

    def _renew(self, number: signal.Signals) -> None:
        reopen_all()
        _signal(number, self._serving, *self._ending)
        # A starting process may have read old files, but the signal would kill it: it cannot handle
        # signals yet.
        if self._starting is not None:
            self._signals_when_ready[number] = None

    def hurry(self) -> None:
        """Stop all processes at once."""
        _signal(signal.SIGTERM, self._serving, self._starting, *self._ending)


def _signal(number: signal.Signals, *processes: ServingProcess | None) -> None:
    """Send a signal to the processes that exist."""
    for each in processes:
        if each is not None:
            each.signal(number)


class _Asked:
    """A stop event for ``watch``, which polls it, for the first time when everything is watched.

    Parameters:
        event: the event that stops the watch.
        first: called at the first poll, in the thread that watches.
    """

    def __init__(self, event: Event, first: Callable[[], None]) -> None:
        self._event = event
        self._first: Callable[[], None] | None = first

    def is_set(self) -> bool:
        first, self._first = self._first, None
        if first is not None:
            first()
        return self._event.is_set()


def source_folders() -> list[Path]:
    """Return the directories of all imported modules, except those of installed packages."""
    installed = {Path(path).resolve() for path in sysconfig.get_paths().values()}
    installed |= {Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve()}
    found = set()
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if file and file.endswith(".py"):
            directory = Path(file).resolve().parent
            if not installed & {directory, *directory.parents}:
                found.add(directory)
    found = found or {Path.cwd()}
    return sorted(each for each in found if not found & set(each.parents))
