"""A plugin framework for socket services on Twisted: the public names, each imported when used.

``twistd`` imports this package to read its declarations, for every command. So nothing here may
import a service, or more of Twisted than the command needs.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sockservices.answering import AnsweringProtocol as AnsweringProtocol
    from sockservices.converters import octal_mode as octal_mode
    from sockservices.converters import one_of as one_of
    from sockservices.converters import text_with_escapes as text_with_escapes
    from sockservices.converters import whole_number as whole_number
    from sockservices.converters import yes_or_no as yes_or_no
    from sockservices.ending import fail_process as fail_process
    from sockservices.ending import stop_process as stop_process
    from sockservices.errors import SettingError as SettingError
    from sockservices.guards import Limits as Limits
    from sockservices.host import SocketService as SocketService
    from sockservices.ledger import Closed as Closed
    from sockservices.ledger import Connection as Connection
    from sockservices.ledger import Ledger as Ledger
    from sockservices.ledger import Opened as Opened
    from sockservices.ledger import Refused as Refused
    from sockservices.listening import DescriptionError as DescriptionError
    from sockservices.listening import IDatagramServerEndpoint as IDatagramServerEndpoint
    from sockservices.listening import (
        IDatagramServerEndpointStringParser as IDatagramServerEndpointStringParser,
    )
    from sockservices.listening import ListenError as ListenError
    from sockservices.listening import Listening as Listening
    from sockservices.logs import to_stderr as to_stderr
    from sockservices.output import Output as Output
    from sockservices.plugin import SocketServiceMaker as SocketServiceMaker
    from sockservices.proxy_protocol import ProxyProtocol as ProxyProtocol
    from sockservices.rates import Rate as Rate
    from sockservices.service import IAnswering as IAnswering
    from sockservices.service import IBatchReceiver as IBatchReceiver
    from sockservices.service import IDatagramFactory as IDatagramFactory
    from sockservices.service import IDrainable as IDrainable
    from sockservices.service import ITruncationReceiver as ITruncationReceiver
    from sockservices.services.ack import AckFactory as AckFactory
    from sockservices.services.counter import CounterFactory as CounterFactory
    from sockservices.services.echo import EchoFactory as EchoFactory
    from sockservices.services.hello import HelloFactory as HelloFactory
    from sockservices.services.hexdump import HexdumpFactory as HexdumpFactory
    from sockservices.settings import setting as setting
    from sockservices.stopping import Stopping as Stopping
    from sockservices.timeouts import Timeouts as Timeouts
    from sockservices.tls import TLS as TLS

_HOME = {
    "AckFactory": "services.ack",
    "AnsweringProtocol": "answering",
    "Closed": "ledger",
    "Connection": "ledger",
    "CounterFactory": "services.counter",
    "DescriptionError": "listening",
    "EchoFactory": "services.echo",
    "HelloFactory": "services.hello",
    "HexdumpFactory": "services.hexdump",
    "IAnswering": "service",
    "IBatchReceiver": "service",
    "IDatagramFactory": "service",
    "IDatagramServerEndpoint": "listening",
    "IDatagramServerEndpointStringParser": "listening",
    "IDrainable": "service",
    "ITruncationReceiver": "service",
    "Ledger": "ledger",
    "Limits": "guards",
    "ListenError": "listening",
    "Listening": "listening",
    "Opened": "ledger",
    "Output": "output",
    "ProxyProtocol": "proxy_protocol",
    "Rate": "rates",
    "Refused": "ledger",
    "SettingError": "errors",
    "SocketService": "host",
    "SocketServiceMaker": "plugin",
    "Stopping": "stopping",
    "TLS": "tls",
    "Timeouts": "timeouts",
    "fail_process": "ending",
    "octal_mode": "converters",
    "one_of": "converters",
    "setting": "settings",
    "stop_process": "ending",
    "text_with_escapes": "converters",
    "to_stderr": "logs",
    "whole_number": "converters",
    "yes_or_no": "converters",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'sockservices' has no attribute {name!r}")
    return getattr(importlib.import_module(f"sockservices.{_HOME[name]}"), name)
