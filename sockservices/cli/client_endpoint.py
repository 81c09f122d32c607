"""The client endpoint for a description, or one line about what is wrong with it."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

import click

from sockservices.cli.errors import CouldNot
from sockservices.errors import DescriptionError
from sockservices.listening import (
    Description,
    abstract_address,
    checked_path,
    datagram_prefixes,
    description_of,
    not_empty,
    port_number,
)
from sockservices.printable import escaped, unbracketed
from sockservices.requirement import pip_install

_EXPECTED = "expected something like tcp:127.0.0.1:7 or unix:/run/x"


def client_endpoint(reactor: Any, text: str) -> Any:
    """Return the endpoint that a description means.

    Raises ``click.BadParameter`` for a description that is not valid, and ``CouldNot`` for an
    endpoint that cannot be made here.
    """
    from twisted.internet.endpoints import UNIXClientEndpoint, clientFromString

    try:
        description = Description.parse(text)
    except DescriptionError as error:
        line = str(error) if ":" in text else f"{text!r} is not an endpoint description"
        raise _bad(f"{line}; {_EXPECTED}") from None
    try:
        if description.prefix == "unix" and "abstract" in description.named:  # not Twisted's
            name = description.values({"abstract": not_empty})["abstract"]
            return UNIXClientEndpoint(reactor, os.fsdecode(abstract_address(name)))
        _check(description)
        if description.prefix in ("ssl", "tls"):
            import_module("twisted.internet.ssl")  # without it, Twisted raises a NameError
        return clientFromString(reactor, unbracketed(text))
    except ImportError as error:
        raise CouldNot(f"{text} needs {error.name}: {pip_install('tls')}") from None
    except DescriptionError as error:
        raise _bad(str(error)) from None
    except (TypeError, ValueError, IndexError) as error:
        raise _bad(f"{text!r}: {error}; {_EXPECTED}") from None
    except Exception as error:  # an invalid certificate, a missing file
        raise CouldNot(f"{text}: {escaped(str(error) or type(error).__name__)}") from None


def _bad(message: str) -> click.BadParameter:
    return click.BadParameter(message, param_hint="DESCRIPTION")


def _check(description: Description) -> None:
    """Reject a description with which Twisted would never connect nor fail, or fail obscurely.

    Raises ``DescriptionError``.
    """
    text, prefix, positional = description.text, description.prefix, description.positional
    if prefix == "unix":
        for path in positional[:1]:
            checked_path(path)
            if not path:
                raise DescriptionError(f"{text!r} has no path")
    elif prefix in ("tcp", "ssl", "tls"):
        _check_host_and_port(description)
    elif prefix in datagram_prefixes():
        raise DescriptionError(f"{text!r} is for datagrams: use sockservices send")
    elif len(positional) == 1 and positional[0].isdecimal():
        right = description_of("tcp", prefix, positional[0])
        raise DescriptionError(f"in {text!r}, the type {prefix!r} is unknown; write {right}")


def _check_host_and_port(description: Description) -> None:
    text, prefix = description.text, description.prefix
    positional = description.positional
    if len(positional) > 2 and not positional[0] and positional[-1].isdecimal():
        right = description_of(prefix, ":".join(positional[:-1]), positional[-1])
        raise DescriptionError(f"{text!r} has no host; an IPv6 address needs brackets: {right}")
    given = {**dict(zip(("host", "port"), positional, strict=False)), **description.named}
    host, port = given.get("host", ""), given.get("port")
    if port is None and host.isdecimal():
        right = description_of(prefix, "127.0.0.1", host)
        raise DescriptionError(f"{text!r} has no host: write {right}")
    if not host:
        raise DescriptionError(f"{text!r} has no host: write {prefix}:HOST:PORT")
    if port is None:
        raise DescriptionError(f"{text!r} has no port: write {description_of(prefix, host)}:PORT")
    try:
        port_number(port)
    except ValueError as error:
        raise DescriptionError(f"in {text!r}, port: {error}") from None
    try:
        host.encode("idna")
    except UnicodeError:
        raise DescriptionError(f"{host!r} is not a valid host name") from None
