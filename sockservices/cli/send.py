"""``sockservices send``: send datagrams to UDP and Unix sockets."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import click

from sockservices.cli.errors import CouldNot, Seconds
from sockservices.cli.sender import Destination, QueueFullError, Sender, first_sent
from sockservices.errors import DescriptionError
from sockservices.listening import (
    Description,
    abstract_address,
    checked_path,
    not_empty,
    port_number,
)
from sockservices.printable import system_reason


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

    DESCRIPTION is udp:HOST:PORT, udp:PORT, unixgram:PATH or unixgram:abstract=NAME. Of a host with
    several addresses, the first that does not refuse the datagram gets it.
    """
    destinations = _destinations(description)
    payload = _payload(text, digits, file)
    sender: Sender | None = None
    try:
        for _ in _rounds(repeat, interval):
            if sender is None:
                sender, reply = first_sent(destinations, payload, wait)
            else:
                reply = sender.send(payload)
            if reply is not None:
                _print(reply)
    except QueueFullError:
        raise CouldNot(f"cannot send to {description}: its queue stays full") from None
    except TimeoutError:
        raise CouldNot(f"no reply from {description} within {wait:g} s") from None
    except OSError as error:
        raise CouldNot(f"cannot send to {description}: {system_reason(error)}") from None
    finally:
        if sender is not None:
            sender.close()


def _destinations(text: str) -> Sequence[Destination]:
    """Return the addresses that a description means, several only for a host name."""
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
                return [(socket.AF_UNIX, abstract_address(values["abstract"]))]
            return [(socket.AF_UNIX, checked_path(values["address"]))]
    except DescriptionError as error:
        raise click.BadParameter(str(error), param_hint="DESCRIPTION") from None
    raise click.BadParameter(
        f"{text!r} is not udp:HOST:PORT, unixgram:PATH or unixgram:abstract=NAME",
        param_hint="DESCRIPTION",
    )


def _resolved(host: str, port: int) -> Sequence[Destination]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except socket.gaierror as error:
        raise CouldNot(f"cannot find {host}: {error.strerror}") from None
    except UnicodeError:
        raise CouldNot(f"cannot find {host}: it is not a valid host name") from None
    return [(family, address) for family, _kind, _protocol, _name, address in found]


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


def _print(reply: bytes) -> None:
    with open(1, "wb", closefd=False) as standard_output:
        standard_output.write(reply if reply.endswith(b"\n") else reply + b"\n")
