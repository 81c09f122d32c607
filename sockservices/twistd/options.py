"""The ``twistd`` options of a service: those that every service has, and its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from typing import Any, NoReturn, TypeVar

import attrs
from twisted.python import usage

from sockservices.connections.limits import Limits
from sockservices.connections.proxy_protocol import ProxyProtocol
from sockservices.connections.timeouts import Timeouts
from sockservices.connections.tls import TLS
from sockservices.errors import DescriptionError
from sockservices.exit import say_on_stderr, show
from sockservices.host.lifespan import Lifespan
from sockservices.host.stopping import Stopping
from sockservices.listening import Listening
from sockservices.mistakes import traceback_of
from sockservices.printable import escaped
from sockservices.process.idle_exit import IdleExit
from sockservices.process.reloading import Reloading
from sockservices.process.supervisor import SERVED, is_supervised
from sockservices.service import Served
from sockservices.settings import (
    Setting,
    Settings,
    Source,
    build,
    check,
    from_environment,
    of_use,
    settings_of,
    spelled_as_option,
    variable,
)
from sockservices.twistd.command_line import (
    check_paths,
    goes_to_background,
    hint,
    is_debugging,
    use_our_log_observer,
    write_no_pid_file_unasked,
)
from sockservices.twistd.pid_file import RunningError

GROUPS: tuple[type[Settings], ...] = (
    Listening,
    Limits,
    Timeouts,
    TLS,
    ProxyProtocol,
    Stopping,
    Lifespan,
    IdleExit,
    Reloading,
)
"""The setting groups that every service has, in the order of ``--help``."""

EVERY_SERVICE = "sockservices"
"""The prefix of environment variables for all services."""

_EVERY = [each for group in GROUPS for each in settings_of(group)]
_HELP_WIDTH, _HELP_COLUMN = 80, 28
_G = TypeVar("_G", bound=Settings)
_O = TypeVar("_O", bound=usage.Options)


def say_why(command: str, error: Exception, text: str | None = None) -> None:
    """Print an error in one line, after ``show_mistake``.

    Parameters:
        command: the command that failed.
        error: what it raised.
        text: the line, if it is not the text of the error.
    """
    show_mistake(error)
    say_on_stderr(f"{command}: {text or error}")


def show_mistake(error: BaseException) -> None:
    """Print the traceback of a mistake that led to an error, to an author at work."""
    if is_debugging() and (traceback := traceback_of(error)):
        print(traceback, file=sys.stderr, end="", flush=True)


class OneLineErrors(usage.Options):
    """Options that report an error in one line on standard error.

    By default, ``twistd`` prints the whole help and then the error, all on standard output.
    """

    def parseOptions(self, options: Any = None) -> None:
        """Parse the arguments; exit with status 2 if they are invalid."""
        self._words = sys.argv[1:] if options is None else options
        try:
            super().parseOptions(options)  # type: ignore[no-untyped-call]
        except usage.UsageError as error:
            say_why(self._command(), error, self.explained(error))
            sys.exit(2)

    def explained(self, error: usage.UsageError) -> str:
        """Return the line to print for an error."""
        return f"{error}{hint(self, str(error), self._words)}"

    def parseArgs(self, *words: str) -> None:
        """Reject words that belong to no option."""
        if words:
            raise usage.UsageError(f"unexpected argument {escaped(words[0])!r}")

    def _command(self) -> str:
        names: list[str] = []
        above = self.parent
        while above is not None:
            names.insert(0, above.subCommand or "")
            above = above.parent
        return " ".join(names) or "options"

    def opt_help(self) -> NoReturn:
        """Display this help and exit."""
        show(str(self))
        sys.exit(0)

    def opt_version(self) -> None:
        """Print the versions of sockservices and Twisted, and exit."""
        from importlib.metadata import version

        show(f"sockservices {version('sockservices')}, Twisted {version('twisted')}")
        sys.exit(0)


def _offers(settings: Iterable[Setting]) -> Callable[[type[_O]], type[_O]]:
    """Return a class decorator that adds these settings to a class of options, all as text."""
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
    """The service that these options are for."""

    def __init__(self, command: str) -> None:
        self.repeated: dict[str, list[str]] = {}
        super().__init__()  # type: ignore[no-untyped-call]
        self.command = command

    def own_rows(self) -> list[tuple[str, str]]:
        """Return the command's own options, as ``--help`` shows them."""
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
        """Return the sources of the service's own settings, in order of precedence."""
        taken = names_of_every_service()  # a factory that is no plugin may have the same names
        own = [each for each in self.served.settings() if each.name not in taken]
        return self.own_source(), from_environment(own, self.command, os.environ)

    def postOptions(self) -> None:
        """Read the settings, and reject those that make no sense."""
        try:
            sources = (
                self._given(_EVERY),
                *(from_environment(_EVERY, each, os.environ) for each in self._prefixes),
            )
            self._groups = {group: build(group, *sources) for group in GROUPS}
            check(self.served.settings(), *self.own_sources())
        except ValueError as error:
            raise usage.UsageError(str(error)) from error
        if self.group(Reloading).reload and goes_to_background(self):
            raise usage.UsageError("--reload works only in the foreground: use twistd -n")
        if self.group(Reloading).reload and self.group(IdleExit).exit_idle is not None:
            raise usage.UsageError("--reload and --exit-idle do not go together")
        try:
            self._listen = self._descriptions()
            self.group(IdleExit).check(self._listen)
        except DescriptionError as error:
            self.end(error)
        if not self._listen:
            raise usage.UsageError("nothing to listen on: give --port, --socket or --listen")
        write_no_pid_file_unasked(self)
        try:
            check_paths(self)
        except RunningError as error:
            self.end(error)
        use_our_log_observer(self)

    @property
    def _prefixes(self) -> tuple[str, str]:
        return self.command, EVERY_SERVICE

    def group(self, kind: type[_G]) -> _G:
        """Return a group of settings that every service has."""
        found: _G = self._groups[kind]
        return found

    def listen(self) -> list[str]:
        """Return the endpoint descriptions of all requested listeners."""
        return self._listen

    def _descriptions(self) -> list[str]:
        if self.is_supervised:  # the supervisor has opened them
            return os.environ[SERVED].split(" ")
        return self.group(Listening).descriptions(self.served.first)

    @property
    def is_supervised(self) -> bool:
        """Whether a supervisor has started this process."""
        return self.group(Reloading).reload and is_supervised()

    def listening(self) -> Listening:
        """Return where to listen, as endpoint descriptions only."""
        listening = self.group(Listening)
        if self.is_supervised:  # the supervisor has made the files of Unix sockets
            listening = attrs.evolve(listening, socket_owner=None, socket_group=None)
        return attrs.evolve(listening, listen=self.listen(), port=None, interface=(), socket=None)

    def _listening_settings(self) -> list[Setting]:
        return Listening.described_for(self.served.first)

    def getUsage(self, width: int | None = None) -> str:
        """Return the help: the service's own options first, then those of every service."""
        from click import HelpFormatter

        help_text = HelpFormatter(width=width or _HELP_WIDTH)
        groups = [(f"Options of {self.command}", self.own_rows())]
        kinds = self.served.kinds or ("stream", "datagram")
        for group in GROUPS:
            settings = settings_of(group) if group is not Listening else self._listening_settings()
            groups.append((group.heading, rows(of_use(settings, kinds))))
        groups[-1][1].extend(_ALWAYS)
        for heading, options in groups:
            if options:
                with help_text.section(heading):
                    help_text.write_dl(options, col_max=_HELP_COLUMN)
        with help_text.section("Environment"):
            example = "max_connections" if "stream" in kinds else "rate"
            help_text.write_text(environment_rule(self.command, example))
        return "\n" + help_text.getvalue().lstrip()

    def end(self, error: Exception, text: str | None = None) -> NoReturn:
        """Print one line, by default the text of an error, and exit with status 1."""
        say_why(self._command(), error, text)
        sys.exit(1)


_ALWAYS = [
    ("--version", "Print the versions of sockservices and Twisted, and exit."),
    ("--help", "Display this help and exit."),
]


def rows(settings: Iterable[Setting]) -> list[tuple[str, str]]:
    """Return settings as ``--help`` shows them: each option, and what it does."""
    return [(each.option, each.described()) for each in settings]


def environment_rule(command: str, example: str) -> str:
    """Return the text that explains a command's environment variables, with one as an example."""
    own, every = (variable(each, example) for each in (command, EVERY_SERVICE))
    return (
        f"Every option can also be set by an environment variable: {own} sets "
        f"{spelled_as_option(example)} for this service. {every} sets it for all services; that "
        "works for every option except the service's own. The command line overrides both, and "
        "the first overrides the second. Separate several values with spaces."
    )


def names_of_every_service() -> set[str]:
    """Return the names of the options that every service has."""
    return {each.name for each in _EVERY} | {"help", "version"}


def options_for(served: Served) -> HostOptions:
    """Return the options of a service: those of every service, and its own."""
    own = served.settings()
    taken = names_of_every_service()
    for each in own:
        if each.name in taken:
            say_on_stderr(f"{served.name} declares --{each.name}, which every service already has")
            sys.exit(1)

    @_offers(own)
    class ServiceOptions(HostOptions):
        pass

    options = ServiceOptions(served.name)
    options.served = served
    return options
