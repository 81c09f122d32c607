"""What ``twistd`` offers for a service: the options that every service has, and its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from getopt import GetoptError, getopt
from typing import Any, NoReturn, TypeVar

import attrs
from twisted.application.app import ServerOptions
from twisted.python import usage

from sockservices.background import ForegroundReport
from sockservices.descriptors import raise_limit
from sockservices.ending import (
    drop_standard_output,
    fail_process,
    say_on_stderr,
    stop_process,
)
from sockservices.errors import SettingError
from sockservices.guards import Limits
from sockservices.host import SocketService
from sockservices.listening import DescriptionError, Listening
from sockservices.orders import run_under_orders
from sockservices.parts import Part
from sockservices.proxy_protocol import ProxyProtocol
from sockservices.reloading import (
    SERVED,
    Reloading,
    ReloadingService,
    follow_supervisor,
    is_supervised,
)
from sockservices.service import Served
from sockservices.settings import (
    Setting,
    Settings,
    Source,
    build,
    check,
    from_environment,
    settings_of,
    spelled_as_option,
    variable,
)
from sockservices.signals import handle_signals
from sockservices.stopping import Stopping
from sockservices.timeouts import Timeouts
from sockservices.tls import TLS

GROUPS: tuple[type[Settings], ...] = (
    *(Listening, Limits, Timeouts, TLS, ProxyProtocol, Stopping, Reloading),
)
"""The settings that every service has, in the order of ``--help``."""

EVERY_SERVICE = "sockservices"
"""The prefix of environment variables that are for all services."""

_EVERY = [each for group in GROUPS for each in settings_of(group)]
_HELP_WIDTH, _HELP_COLUMN = 80, 28
_G = TypeVar("_G", bound=Settings)
_O = TypeVar("_O", bound=usage.Options)


class OneLineErrors(usage.Options):
    """Options whose errors are one line on standard error.

    ``twistd`` prints the whole help, then the error, all on standard output.
    """

    def parseOptions(self, options: Any = None) -> None:
        """Parse; end the process with status 2 for what cannot be understood."""
        try:
            super().parseOptions(options)  # type: ignore[no-untyped-call]
        except usage.UsageError as error:
            say_on_stderr(f"{self._command()}: {self.explained(error)}")
            sys.exit(2)

    def explained(self, error: usage.UsageError) -> str:
        """Return the line to print for an error."""
        return str(error)

    def _command(self) -> str:
        names: list[str] = []
        above = self.parent
        while above is not None:
            names.insert(0, above.subCommand or "")
            above = above.parent
        return " ".join(names) or "options"

    def opt_help(self) -> NoReturn:
        """Display this help and exit."""
        try:
            print(self)
            sys.stdout.flush()
        except BrokenPipeError:
            drop_standard_output()
        sys.exit(0)

    def opt_version(self) -> None:
        """Print the versions of sockservices and Twisted, and exit."""
        from importlib.metadata import version

        print(f"sockservices {version('sockservices')}, Twisted {version('twisted')}")
        sys.exit(0)


def _offers(settings: Iterable[Setting]) -> Callable[[type[_O]], type[_O]]:
    """Make a decorator for classes of options that are to take these settings, all as text."""
    settings = list(settings)
    single = [each for each in settings if not (each.is_flag or each.is_repeated)]

    def add(options: type[_O]) -> type[_O]:
        rows: Any = options
        rows.optFlags = [[each.name, None, each.help] for each in settings if each.is_flag]
        rows.optParameters = [[each.name, None, None, each.help] for each in single]
        for each in settings:
            if each.is_repeated:
                setattr(options, f"opt_{each.argument}", _appending(each))
        return options

    return add


def _appending(setting: Setting) -> Callable[[HostOptions, str], None]:
    def append(options: HostOptions, text: str) -> None:
        options.repeated.setdefault(setting.argument, []).append(text)

    append.__doc__ = setting.help
    return append


@_offers(_EVERY)
class HostOptions(OneLineErrors):
    """The options that every service has.

    Parameters:
        command: the command, which is the prefix of its environment variables.
    """

    served: Served
    """What it serves."""

    def __init__(self, command: str) -> None:
        self.repeated: dict[str, list[str]] = {}
        super().__init__()  # type: ignore[no-untyped-call]
        self.command = command

    def own_rows(self) -> list[tuple[str, str]]:
        """Return the options of this command alone, as ``--help`` shows them."""
        return rows(self.served.settings())

    def own_source(self) -> Source:
        """Return the service's own settings that were given on the command line."""
        return self._given(self.served.settings())

    def _given(self, settings: Iterable[Setting]) -> Source:
        given: dict[str, Any] = {}
        for each in settings:
            value = self.repeated.get(each.argument) if each.is_repeated else self[each.name]
            if each.is_flag:
                value = "yes" if value else None
            if value is not None:
                given[each.argument] = value
        return Source(given, spelled_as_option)

    def own_sources(self) -> tuple[Source, ...]:
        """Return where the values of the service's own settings come from, the first first."""
        own = self.served.settings()
        return self.own_source(), from_environment(own, self.command, os.environ)

    def postOptions(self) -> None:
        """Read the settings, and refuse what makes no sense."""
        try:
            sources = (
                self._given(_EVERY),
                *(from_environment(_EVERY, each, os.environ) for each in self._prefixes),
            )
            self._groups = {group: build(group, *sources) for group in GROUPS}
            check(self.served.settings(), *self.own_sources())
        except ValueError as error:
            raise usage.UsageError(str(error)) from None
        if self.group(Reloading).reload and self._goes_to_background():
            raise usage.UsageError("--reload is for the foreground: twistd -n")
        if not self.listen():
            raise usage.UsageError("nothing to listen on: give --port, --socket or --listen")
        self._write_no_pid_file_unasked()

    @property
    def _prefixes(self) -> tuple[str, str]:
        return self.command, EVERY_SERVICE

    def group(self, kind: type[_G]) -> _G:
        """Return one of the groups of settings that every service has."""
        found: _G = self._groups[kind]
        return found

    def listen(self) -> list[str]:
        """Return the endpoint descriptions of all listeners that were asked for."""
        if self._is_supervised:  # they were opened for us
            return os.environ[SERVED].split(" ")
        return self.group(Listening).descriptions(self.served.first)

    def _listening(self) -> Listening:
        return attrs.evolve(
            self.group(Listening), listen=self.listen(), port=None, interface=None, socket=None
        )

    def _listening_settings(self) -> list[Setting]:
        return Listening.described_for(self.served.first)

    def getUsage(self, width: int | None = None) -> str:
        """Return the help: the service's own options first, then those that all have."""
        from click import HelpFormatter

        help_text = HelpFormatter(width=width or _HELP_WIDTH)
        groups = [(f"Options of {self.command}", self.own_rows())]
        for group in GROUPS:
            settings = settings_of(group) if group is not Listening else self._listening_settings()
            groups.append((group.heading, rows(settings)))
        groups[-1][1].extend(_ALWAYS)
        for heading, options in groups:
            if options:
                with help_text.section(heading):
                    help_text.write_dl(options, col_max=_HELP_COLUMN)
        with help_text.section("Environment"):
            help_text.write_text(environment_rule(self.command))
        return "\n" + help_text.getvalue().lstrip()

    def make_service(self) -> Any:
        """Build the ``IService`` that runs it; end the process with one line if that fails."""
        supervises = self.group(Reloading).reload and not self._is_supervised
        return self._supervisor() if supervises else self._host()

    @property
    def _is_supervised(self) -> bool:
        return self.group(Reloading).reload and is_supervised()

    def _supervisor(self) -> ReloadingService:
        from twisted.internet import reactor

        try:
            supervisor = ReloadingService(
                self._listening(),
                command=self._command_again(),
                folder=os.getcwd(),
                reactor=reactor,
                on_failure=fail_process,
            )
            self._check_kinds(supervisor)
        except DescriptionError as error:
            self._end(str(error))
        handle_signals(
            reactor,
            hurry=supervisor.hurry,
            reload=supervisor.reload,
            suspend_or_resume=supervisor.suspend_or_resume,
        )
        return supervisor

    def _check_kinds(self, supervisor: ReloadingService) -> None:
        for each in supervisor.listeners:
            if getattr(self.served, each.kind) is None:
                name = self.served.name
                raise DescriptionError(
                    f"{each.description!r} is for {each.kind}s, which {name} does not serve"
                )

    def _command_again(self) -> list[str]:
        """Return the command line of this process, for one that has no file with its number."""
        top = self._top()
        _options, rest = _parsed_again(top)
        no_file = ["--pidfile="] if isinstance(top, ServerOptions) else []
        # As it was begun: python -m twisted has another path for modules than its file.
        return [sys.executable, *sys.orig_argv[1 : -len(rest)], *no_file, *rest]

    def _write_no_pid_file_unasked(self) -> None:
        """Have ``twistd -n`` write a pid file only if it was told where.

        Who runs a service in the foreground knows its process. The file would lie in the current
        directory, which may be read-only; and in a container it stops the next start after a kill:
        the process ID in it is that of the new process itself, which twistd takes for another
        server.
        """
        top = self._top()
        is_twistd = isinstance(top, ServerOptions) and "pidfile" in top
        if not is_twistd or self._goes_to_background() or _asks_for(top, "pidfile"):
            return
        top["pidfile"] = ""

    def _end(self, why: str) -> NoReturn:
        say_on_stderr(f"{self._command()}: {why}")
        sys.exit(1)

    def _host(self) -> SocketService:
        report = ForegroundReport() if self._goes_to_background() else None
        try:
            stream, datagram = self.served.build(*self.own_sources())
            parts = [self.group(each) for each in GROUPS if issubclass(each, Part)]
            host = SocketService(
                stream,
                self._listening(),
                *parts,
                datagram=datagram,
                name=self.served.name,
                on_failure=report.failed if report is not None else fail_process,
            )
        except SettingError as error:
            self._end(error.spelled(spelled_as_option))
        except DescriptionError as error:
            self._end(str(error))
        from twisted.internet import reactor

        if self._is_supervised:
            follow_supervisor(reactor, suspend=host.suspend, stop=stop_process)
        raise_limit(reactor)
        run_under_orders(reactor, host)
        if report is not None:
            host.when_listening().addCallbacks(
                lambda _addresses: report.listening(), lambda _failure: None
            )
        return host

    def _top(self) -> Any:
        top: Any = self
        while top.parent is not None:
            top = top.parent
        return top

    def _goes_to_background(self) -> bool:
        top = self._top()
        return isinstance(top, ServerOptions) and not (top["nodaemon"] or top["debug"])


def _parsed_again(top: usage.Options) -> tuple[list[tuple[str, str]], list[str]]:
    """Return what this process's command line has for ``twistd``, and what is behind that."""
    return getopt(sys.argv[1:], top.shortOpt, top.longOpt)


def _asks_for(top: usage.Options, name: str) -> bool:
    """Whether an option was given: a parsed one does not tell its default from a given value."""
    if top[name] != top.defaults[name]:
        return True
    try:
        given, _rest = _parsed_again(top)
    except GetoptError:  # a program of somebody else's, which has options of its own
        return False
    return f"--{name}" in dict(given)


_ALWAYS = [
    ("--version", "Print the versions of sockservices and Twisted, and exit."),
    ("--help", "Display this help and exit."),
]


def rows(settings: Iterable[Setting]) -> list[tuple[str, str]]:
    """Return settings as ``--help`` shows them: the option, and what it does."""
    return [(each.option, each.described()) for each in settings]


def environment_rule(command: str) -> str:
    """Return how the settings of a command are given in the environment."""
    own, every = (variable(each, "max_connections") for each in (command, EVERY_SERVICE))
    return (
        f"Every option can also be set by an environment variable: {own} is "
        f"--max-connections of this service, and {every} that of all services. The command line "
        "wins over both, and the service's own variable over the other. Separate several values "
        "with blanks."
    )


def names_of_every_service() -> set[str]:
    """Return the names of the options that every service has."""
    return {each.name for each in _EVERY} | {"help", "version"}


def options_for(served: Served) -> HostOptions:
    """Return options for one service: those of every service, and its own."""
    own = served.settings()
    taken = names_of_every_service()
    for each in own:
        if each.name in taken:
            say_on_stderr(f"{served.name} declares --{each.name}, which every service has")
            sys.exit(1)

    @_offers(own)
    class ServiceOptions(HostOptions):
        pass

    options = ServiceOptions(served.name)
    options.served = served
    return options
