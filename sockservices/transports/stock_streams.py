"""Twisted's own connections, with counters, on ports that accept as the eager ones do."""

from __future__ import annotations

from twisted.internet import tcp, unix

from sockservices.transports.adopted_sockets import AdoptedUnixPort
from sockservices.transports.binding import BindsAsAsked
from sockservices.transports.byte_counting import Counting
from sockservices.transports.closing import ClosesInOrder, ReadsTheRest
from sockservices.transports.ipv6_only import ChoosesFamilies
from sockservices.transports.late_tls import StartsTLS
from sockservices.transports.log_prefixes import EscapedPrefix
from sockservices.transports.port import AcceptingPort


class TCPServer(Counting, StartsTLS, ClosesInOrder, tcp.Server):
    """A connection that a TCP port has accepted."""


class TCPPort(ChoosesFamilies, BindsAsAsked, AcceptingPort):
    """A listening TCP port; see ``twisted.internet.tcp.Port`` for its parameters."""

    transport = TCPServer


class UNIXServer(Counting, StartsTLS, ReadsTheRest, EscapedPrefix, unix.Server):
    """A connection that a Unix port has accepted."""


class UNIXPort(AcceptingPort, unix.Port):
    """A listening Unix port; see ``twisted.internet.unix.Port`` for its parameters."""

    transport: type[unix.Server] = UNIXServer


class AdoptedUNIXPort(AdoptedUnixPort, UNIXPort):
    """A Unix port on a socket that listens already."""
