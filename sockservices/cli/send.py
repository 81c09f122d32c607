"""``sockservices send``: send datagrams to UDP and Unix sockets."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import click

from sockservices.cli.errors import CouldNot, Seconds
from sockservices.errors import DescriptionError
from sockservices.listening import (
    Description,
    abstract_address,
    checked_path,
    not_empty,
    port_number,
)
from sockservices.printable import system_reason

_LARGEST_REPLY = 1 << 18


@click.command()
@click.argument("description", metavar="DESCRIPTION")
@click.argument("text", required=False)
@click.option("--hex", "digits", metavar="DIGITS", help="Send these bytes, such as '4d 65'.")
@click.option("--file", "file", type=click.File("rb"), help="Send the contents of this file.")
@click.option(
    "--repeat",
    metavar="N",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Send the datagram this many times.",
)
@click.option(
    "--interval",
    metavar="SECONDS",
    type=Seconds(),
    default=0.0,
    show_default=True,
    help="Pause for this long between datagrams.",
)
@click.option(
    "--wait",
    metavar="SECONDS",
    type=Seconds(min_open=True),
    help="Wait this long for a reply to each datagram, and print it.",
)
def send(
    description: str,
    text: str | None,
    digits: str | None,
    file: Any,
    repeat: int,
    interval: float,
    wait: float | None,
) -> None:
    """Send one datagram with TEXT, or with standard input if TEXT is -.

    DESCRIPTION is udp:HOST:PORT, udp:PORT, unixgram:PATH or unixgram:abstract=NAME.
    """
    family, address = _destination(description)
    payload = _payload(text, digits, file)
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sender:
            if wait is not None:
                sender.settimeout(wait)
                if family == socket.AF_UNIX:
                    _bind_for_reply(sender)
            sender.connect(address)
            for _ in _rounds(repeat, interval):
                sender.send(payload)
                if wait is not None:
                    _print_reply(sender)
    except TimeoutError:
        raise CouldNot(f"no reply from {description} within {wait:g} s") from None
    except OSError as error:
        raise CouldNot(f"cannot send to {description}: {system_reason(error)}") from None


def _destination(text: str) -> tuple[socket.AddressFamily, Any]:
    try:
        description = Description.parse(text)
        if description.prefix == "udp":
            # udp:PORT means this machine, so the description that a service listens on works here.
            alone = len(description.positional) == 1 and not description.named
            parts: dict[str, Callable[[str], Any]] = {"host": not_empty, "port": port_number}
            if alone:
                del parts["host"]
            values = description.values(parts, required="port")
            return _resolved(values.get("host", "127.0.0.1"), values["port"])
        if description.prefix == "unixgram":
            values = description.values({"address": not_empty, "abstract": not_empty})
            if len(values) != 1:
                raise DescriptionError(f"{text!r} needs either a path or abstract=NAME")
            if "abstract" in values:
                return socket.AF_UNIX, abstract_address(values["abstract"])
            return socket.AF_UNIX, checked_path(values["address"])
    except DescriptionError as error:
        raise click.BadParameter(str(error), param_hint="DESCRIPTION") from None
    raise click.BadParameter(
        f"{text!r} is not udp:HOST:PORT, unixgram:PATH or unixgram:abstract=NAME",
        param_hint="DESCRIPTION",
    )


def _resolved(host: str, port: int) -> tuple[socket.AddressFamily, Any]:
    try:
        family, _kind, _protocol, _name, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_DGRAM
        )[0]
    except socket.gaierror as error:
        raise CouldNot(f"cannot find {host}: {error.strerror}") from None
    except UnicodeError:
        raise CouldNot(f"cannot find {host}: it is not a valid host name") from None
    return family, address


def _payload(text: str | None, digits: str | None, file: Any) -> bytes:
    if sum(source is not None for source in (text, digits, file)) != 1:
        raise click.UsageError("give one of TEXT, --hex and --file")
    if digits is not None:
        try:
            return bytes.fromhex(digits)
        except ValueError:
            raise click.BadParameter(
                f"{digits!r} is not hex: use pairs of digits, such as '4d 65'", param_hint="--hex"
            ) from None
    if file is not None:
        return bytes(file.read())
    if text == "-":
        with open(0, "rb", closefd=False) as standard_input:
            return standard_input.read()
    assert text is not None
    return os.fsencode(text)


def _bind_for_reply(sender: socket.socket) -> None:
    """Bind to a name that a reply can be sent to; the kernel chooses it (unix(7), autobind)."""
    if sys.platform != "linux":
        raise CouldNot("--wait on Unix sockets needs Linux, which can name a socket by itself")
    sender.bind("")


def _rounds(repeat: int, interval: float) -> Iterator[int]:
    shows_progress = repeat > 1 and sys.stderr.isatty()
    with contextlib.ExitStack() as stack:
        rounds: Any = range(repeat)
        if shows_progress:
            rounds = stack.enter_context(
                click.progressbar(rounds, label="Sending", file=sys.stderr)
            )
        for number in rounds:
            if number:
                time.sleep(interval)
            yield number


def _print_reply(sender: socket.socket) -> None:
    reply = sender.recv(_LARGEST_REPLY)
    with open(1, "wb", closefd=False) as standard_output:
        standard_output.write(reply if reply.endswith(b"\n") else reply + b"\n")
