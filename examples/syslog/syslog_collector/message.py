"""Parsing of syslog messages (RFC 5424)."""

from __future__ import annotations

import re
from typing import Any

import lark

# Section 6.2.1 of the RFC.
SEVERITIES = (
    "emerg",
    "alert",
    "crit",
    "err",
    "warning",
    "notice",
    "info",
    "debug",
)
FACILITIES = (
    *("kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron"),
    *("authpriv", "ftp", "ntp", "audit", "alert", "clock"),
    *(f"local{number}" for number in range(8)),
)

# Section 6, rule by rule. "-" stands for an unknown value.
_GRAMMAR = r"""
start: header " " data [MSG]
header: "<" PRI ">" VERSION " " TIMESTAMP " " HOSTNAME " " APPNAME " " PROCID " " MSGID
data: "-" | element+
element: "[" NAME (" " parameter)* "]"
parameter: NAME "=" VALUE

PRI: /19[01]|1[0-8][0-9]|[1-9][0-9]?|0/
VERSION: /[1-9][0-9]{0,2}/
TIMESTAMP: "-" | _DATE "T" _TIME _FRACTION? _OFFSET
_DATE: /[0-9]{4}-[01][0-9]-[0-3][0-9]/
_TIME: /[0-2][0-9]:[0-5][0-9]:[0-5][0-9]/
_FRACTION: /\.[0-9]{1,6}/
_OFFSET: "Z" | /[+-][0-2][0-9]:[0-5][0-9]/
HOSTNAME: /[!-~]{1,255}/
APPNAME: /[!-~]{1,48}/
PROCID: /[!-~]{1,128}/
MSGID: /[!-~]{1,32}/
NAME: /[!#-<>-\\^-~]{1,32}/
VALUE: /"([^"\\\]]|\\.)*"/s
MSG: / .*/s
"""
_HEADER = ("version", "timestamp", "hostname", "appname", "procid", "msgid")


class NotSyslogError(ValueError):
    """The error for text that is not an RFC 5424 message."""


def parse(text: str) -> dict[str, Any]:
    """Return the fields of a message; unknown ones are ``None``.

    Parameters:
        text: one message.

    Raises ``NotSyslogError``.
    """
    try:
        fields: dict[str, Any] = _PARSER.parse(text)
    except lark.UnexpectedInput as error:
        raise NotSyslogError(f"not RFC 5424 at character {error.pos_in_stream}") from None
    return fields


@lark.v_args(inline=True)
class _Fields(lark.Transformer[lark.Token, dict[str, Any]]):
    def header(self, *fields: str) -> Any:
        return fields

    def start(self, header: Any, data: Any, message: str | None) -> dict[str, Any]:
        pri, *others = header
        facility, severity = divmod(int(pri), 8)
        return {
            "facility": FACILITIES[facility],
            "severity": SEVERITIES[severity],
            **{name: _known(value) for name, value in zip(_HEADER, others, strict=True)},
            "data": data,
            "message": None if message is None else message[1:].removeprefix("\ufeff"),
        }

    def data(self, *elements: Any) -> dict[str, dict[str, list[str]]]:
        found: dict[str, dict[str, list[str]]] = {}
        for element, parameters in elements:
            of_element = found.setdefault(element, {})
            for name, value in parameters:  # a name may be repeated
                of_element.setdefault(name, []).append(value)
        return found

    def element(self, name: str, *parameters: tuple[str, str]) -> Any:
        return str(name), parameters

    def parameter(self, name: str, value: str) -> tuple[str, str]:
        return str(name), re.sub(r'\\(["\\\]])', r"\1", value[1:-1])


def _known(value: str) -> str | None:
    return None if value == "-" else str(value)


_PARSER = lark.Lark(
    _GRAMMAR, parser="lalr", lexer="contextual", transformer=_Fields(), maybe_placeholders=True
)
