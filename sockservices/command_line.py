"""What ``twistd`` offers for a service: the options that every service has, and its own."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Mapping
from getopt import GetoptError, getopt
from typing import Any, ClassVar, Literal, NoReturn

import attrs
from twisted.application.app import ServerOptions
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.protocol import AbstractDatagramProtocol
from twisted.python import usage

from sockservices.background import ForegroundReport
from sockservices.converters import octal_mode, seconds, some_seconds
from sockservices.descriptors import raise_limit
from sockservices.ending import (
    drop_standard_output,
    fail_process,
    say_on_stderr,
    stop_process,
)
from sockservices.host import DEFAULT_FLUSH, DEFAULT_HANDSHAKE_TIMEOUT, SocketService
from sockservices.interfaces import IDatagramFactory
from sockservices.limit_options import LimitOptions
from sockservices.listening import (
    DEFAULT_BACKLOG,
    DEFAULT_MODE,
    DatagramListener,
    DescriptionError,
    backlog_length,
    description_of,
    ip_address,
    not_empty,
    port_number,
)
from sockservices.options import DeclaredOption, OptionError, build, declared_options
from sockservices.orders import run_under_orders
from sockservices.parameters import parameter
from sockservices.reloading import SERVED, ReloadingService, follow_supervisor, is_supervised
from sockservices.signals import handle_signals

Kind = Literal["stream", "datagram"]


class CertificateError(ValueError):
    """A certificate that cannot be used; one line."""


@attrs.frozen
class Served:
    """What a command serves.

    Parameters:
        name: the command.
        stream: builds the stream factory; ``None`` without streams.
        datagram: builds the datagram factory or protocol; ``None`` without datagrams. The same
            object as ``stream`` where one factory serves both.
        first: the kind that ``--port`` and ``--socket`` mean.
    """

    name: str
    stream: Callable[..., Any] | None
    datagram: Callable[..., Any] | None
    first: Kind

    def declared(self) -> list[DeclaredOption]:
        """Return the service's own options; one that both kinds declare comes once."""
        found = {}
        for factory in (self.datagram, self.stream):
            if factory is not None:
                found.update({each.name: each for each in declared_options(factory)})
        return list(found.values())

    def host(self, own_options: Mapping[str, str], **arguments: Any) -> SocketService:
        """Build the service and the host that runs it.

        Parameters:
            own_options: the service's own, as text.
            arguments: for ``SocketService``.

        Raises ``OptionError`` and ``DescriptionError``.
        """
        stream = self._build(self.stream, own_options)
        if self.datagram is self.stream:
            return SocketService(stream, name=self.name, **arguments)
        # One is built at once, so that a bad value is known now; it serves the first listener.
        ready = [self._build(self.datagram, own_options)]
        datagram = ready[0]
        if isinstance(datagram, AbstractDatagramProtocol) and not _is_built(self.datagram):

            def datagram() -> Any:
                return ready.pop() if ready else self._build(self.datagram, own_options)

        return SocketService(stream, datagram=datagram, name=self.name, **arguments)

    def _build(self, factory: Callable[..., Any] | None, texts: Mapping[str, str]) -> Any:
        if factory is None:
            return None
        if _is_built(factory):
            if texts:
                raise OptionError(f"{self.name} is an object already built: it takes no options")
            return factory
        takes = {each.name for each in declared_options(factory)}
        return build(factory, {name: text for name, text in texts.items() if name in takes})


def _is_built(found: Any) -> bool:
    """Whether this is a service already, and not the class or function that makes one."""
    return (
        IProtocolFactory.providedBy(found)
        or IDatagramFactory.providedBy(found)
        or isinstance(found, AbstractDatagramProtocol)
    )


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


class _Given(str):
    """The text of one of a service's own options that was given, apart from a default."""

    __slots__ = ()


class HostOptions(OneLineErrors, LimitOptions):
    """The options that every service has."""

    served: Served
    optParameters: ClassVar[list[list[Any]]] = [
        parameter("port", "TCP port; 0 lets the kernel choose.", port_number),
        parameter(
            "interface",
            "Numeric IPv4 or IPv6 address for --port. [default: all IPv4]",
            ip_address,
        ),
        parameter("socket", "Path of a Unix socket.", not_empty),
        parameter("mode", "File mode of Unix sockets, in octal.", octal_mode, f"{DEFAULT_MODE:o}"),
        parameter(
            "backlog", "Connections that may wait to be accepted.", backlog_length, DEFAULT_BACKLOG
        ),
        parameter(
            "tls-cert",
            "Certificate in PEM, with its issuers'; TLS on every stream listener.",
            not_empty,
        ),
        parameter("tls-key", "Its key. [default: in the file of --tls-cert]", not_empty),
        parameter(
            "tls-client-ca",
            "Issuers of clients' certificates; with it a client needs one.",
            not_empty,
        ),
        parameter(
            "handshake-timeout",
            "Seconds for a TLS handshake, and for a PROXY header; then cut.",
            some_seconds,
            DEFAULT_HANDSHAKE_TIMEOUT,
        ),
        parameter(
            "graceful-timeout",
            "Seconds in which connections may finish their work at a stop.",
            seconds,
            0.0,
        ),
        parameter(
            "flush",
            "Seconds in which what is written is delivered at a stop.",
            seconds,
            DEFAULT_FLUSH,
        ),
    ]

    optFlags: ClassVar[list[list[Any]]] = [
        ["reload", None, "Start anew, on the same sockets, when a source file changes."],
        ["stock-transports", None, "Twisted's own transports, not the eager ones (faster)."],
    ]

    def __init__(self) -> None:
        super().__init__()
        self._descriptions: list[str] = []

    def opt_listen(self, description: str) -> None:
        """Endpoint description, as tcp:7, unix:/run/x, udp:7, unixgram:/run/x; may be repeated."""
        self._descriptions.append(description)

    def own_options(self) -> dict[str, str]:
        """Return the service's own options that were given, as text."""
        raise NotImplementedError

    def listen(self) -> list[str]:
        """Return the endpoint descriptions of all listeners that were asked for."""
        if self._is_supervised:  # they were opened for us
            return os.environ[SERVED].split(" ")
        return [*self._short_forms(), *self._descriptions]

    def _short_forms(self) -> list[str]:
        streams = self.served.first == "stream"
        short = []
        if self["port"] is not None:
            short.append(
                description_of(
                    "tcp" if streams else "udp", str(self["port"]), interface=self["interface"]
                )
            )
        if self["socket"] is not None:
            short.append(description_of("unix" if streams else "unixgram", self["socket"]))
        return short

    def postOptions(self) -> None:
        """Refuse what makes no sense together."""
        if self["interface"] is not None and self["port"] is None:
            raise usage.UsageError("--interface goes with --port")
        for name in ("tls-key", "tls-client-ca"):
            if self[name] is not None and self["tls-cert"] is None:
                raise usage.UsageError(f"--{name} goes with --tls-cert")
        self.check_together()
        if self["reload"] and self._goes_to_background():
            raise usage.UsageError("--reload is for the foreground: twistd -n")
        if not self.listen():
            raise usage.UsageError("nothing to listen on: give --port, --socket or --listen")
        self._write_no_pid_file_unasked()

    def make_service(self) -> Any:
        """Build the ``IService`` that runs it; end the process with one line if that fails."""
        supervises = self["reload"] and not self._is_supervised
        return self._supervisor() if supervises else self._host()

    @property
    def _is_supervised(self) -> bool:
        return bool(self["reload"]) and is_supervised()

    def _supervisor(self) -> ReloadingService:
        if importlib.util.find_spec("watchfiles") is None:
            self._end("--reload needs: pip install 'sockservices[reload]'")
        from twisted.internet import reactor

        try:
            supervisor = ReloadingService(
                self.listen(),
                int(self["backlog"]),
                octal_mode(self["mode"]),
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
            kind: Kind = "datagram" if isinstance(each, DatagramListener) else "stream"
            if getattr(self.served, kind) is None:
                raise DescriptionError(
                    f"{each.description!r} is for {kind}s, which {self.served.name} does not serve"
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
            host = self.served.host(
                self.own_options(),
                listen=self.listen(),
                backlog=int(self["backlog"]),
                mode=octal_mode(self["mode"]),
                stock_transports=bool(self["stock-transports"]),
                limits=self.limits(),
                idle_timeout=self["idle-timeout"],
                max_time=self["max-time"],
                max_write_buffer=self["max-write-buffer"],
                tls=self._certificate(),
                proxy_protocol=self.proxy_protocol(),
                handshake_timeout=float(self["handshake-timeout"]),
                graceful_timeout=float(self["graceful-timeout"]),
                flush=float(self["flush"]),
                on_failure=report.failed if report is not None else fail_process,
            )
        except (OptionError, DescriptionError, CertificateError) as error:
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

    def _certificate(self) -> Any:
        if self["tls-cert"] is None:
            return None
        try:
            from sockservices.tls import Certificate
        except ImportError:
            raise CertificateError("--tls-cert needs: pip install 'sockservices[tls]'") from None
        try:
            return Certificate(self["tls-cert"], self["tls-key"], self["tls-client-ca"])
        except ValueError as error:
            raise CertificateError(f"--tls-cert: {error}") from None

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


def names_of_every_service() -> set[str]:
    """Return the names of the options that every service has."""
    rows = [*HostOptions.optParameters, *HostOptions.optFlags, *LimitOptions.optParameters]
    return {row[0] for row in rows} | {*LimitOptions.lists, "listen", "help", "version"}


def options_for(served: Served) -> HostOptions:
    """Return options for one service: those of every service, and its own."""
    own = served.declared()
    clash = names_of_every_service()
    for each in own:
        if each.name in clash:
            say_on_stderr(f"{served.name} declares --{each.name}, which every service has")
            sys.exit(1)

    class ServiceOptions(HostOptions):
        optFlags: ClassVar[list[list[Any]]] = [
            [each.name, None, each.help] for each in own if each.is_flag
        ]
        optParameters: ClassVar[list[list[Any]]] = [
            [each.name, None, None, each.described(), _taker(each)]
            for each in own
            if not each.is_flag
        ]

        def own_options(self) -> dict[str, str]:
            given = {each.name: self[each.name] for each in own if not each.is_flag}
            flags = {each.name: "yes" for each in own if each.is_flag and self[each.name]}
            return flags | {name: str(text) for name, text in given.items() if type(text) is _Given}

    options = ServiceOptions()
    options.served = served
    if served.first == "datagram":
        options.docs["port"] = "UDP port; 0 lets the kernel choose."
        options.docs["socket"] = "Path of a Unix datagram socket."
    return options


def _taker(each: DeclaredOption) -> Callable[[str], Any]:
    def take(text: str) -> _Given:
        try:
            each.value(text)
        except OptionError as error:
            raise usage.UsageError(str(error)) from None
        return _Given(text)

    return take
