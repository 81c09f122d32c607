"""Running a service with its options: in this process, or in processes of a supervisor."""

from __future__ import annotations

import os
from typing import Any

from twisted.logger import Logger
from twisted.python.failure import Failure

from sockservices.connections.parts import Part
from sockservices.errors import DescriptionError, SettingError
from sockservices.exit import fail_process, stop_process
from sockservices.host.checks import check_use
from sockservices.host.host import SocketService
from sockservices.listening import untaken
from sockservices.printable import escaped
from sockservices.process.background import ForegroundReport
from sockservices.process.file_descriptors import raise_limit
from sockservices.process.idle_exit import IdleExit, exit_when_idle
from sockservices.process.reloading import Reloading, ReloadingService
from sockservices.process.signals import control, handle_signals
from sockservices.process.supervisor import follow_supervisor
from sockservices.settings import spelled_as_option
from sockservices.twistd.command_line import command_again, goes_to_background, pid_file
from sockservices.twistd.options import GROUPS, HostOptions, show_mistake

_log = Logger(namespace="sockservices")


def make_service(options: HostOptions) -> SocketService | ReloadingService:
    """Build what runs a service; if that fails, print one line and exit."""
    supervises = options.group(Reloading).reload and not options.is_supervised
    made = _supervisor(options) if supervises else _host(options)
    for description, name in untaken(options.listen()):
        _log.warn(
            "nothing listens on {listener}, a socket named {socket_name} that was passed to this "
            "process: use it, or take it from the unit",
            listener=description,
            socket_name=escaped(name),
        )
    return made


def _supervisor(options: HostOptions) -> ReloadingService:
    from twisted.internet import reactor

    try:
        supervisor = ReloadingService(
            options.listening(),
            command=command_again(options),
            folder=os.getcwd(),
            reactor=reactor,
            on_failure=fail_process,
        )
        _check_kinds(options, supervisor)
        check_use(options.served.name, supervisor.listeners, (), [options.listening()])
    except SettingError as error:
        options.end(error, error.spelled(spelled_as_option))
    except DescriptionError as error:
        options.end(error)
    handle_signals(
        reactor,
        hurry=supervisor.hurry,
        reload=supervisor.reload,
        reopen=supervisor.reopen,
        suspend_or_resume=supervisor.suspend_or_resume,
    )
    return supervisor


def _check_kinds(options: HostOptions, supervisor: ReloadingService) -> None:
    served = options.served
    for each in supervisor.listeners:
        if getattr(served, each.kind) is None:
            raise DescriptionError(
                f"{each.description!r} is for {each.kind}s, which {served.name} does not serve"
            )


def _host(options: HostOptions) -> SocketService:
    report = ForegroundReport() if goes_to_background(options) else None
    try:
        stream, datagram = options.served.build(*options.own_sources())
        host = SocketService(
            stream,
            options.listening(),
            *[options.group(each) for each in GROUPS if issubclass(each, Part)],
            datagram=datagram,
            name=options.served.name,
            on_failure=report.failed if report is not None else fail_process,
        )
    except SettingError as error:
        options.end(error, error.spelled(spelled_as_option))
    except DescriptionError as error:
        options.end(error)
    from twisted.internet import reactor

    if options.is_supervised:
        follow_supervisor(reactor, suspend=host.suspend, stop=stop_process)
    raise_limit(reactor)
    host.when_listening().addErrback(_show_mistake)
    control(reactor, host, pid_file(options), in_background=report is not None)
    idle = options.group(IdleExit).exit_idle
    if idle is not None:
        exit_when_idle(reactor, host, idle)
    if report is not None:
        host.when_listening().addCallbacks(
            lambda _addresses: report.listening(), lambda _failure: None
        )
    return host


def _show_mistake(failure: Failure) -> None:
    error: Any = failure.value
    show_mistake(error)
