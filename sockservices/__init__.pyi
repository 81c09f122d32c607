"""The only list of the public names."""

from .answering import AnsweringProtocol as AnsweringProtocol
from .connections.ledger import Closed as Closed
from .connections.ledger import Connection as Connection
from .connections.ledger import Ledger as Ledger
from .connections.ledger import Opened as Opened
from .connections.ledger import Refused as Refused
from .connections.limits import Limits as Limits
from .connections.parts import Context as Context
from .connections.parts import Part as Part
from .connections.parts import RunningPart as RunningPart
from .connections.proxy_protocol import ProxyProtocol as ProxyProtocol
from .connections.rates import Rate as Rate
from .connections.timeouts import Timeouts as Timeouts
from .connections.tls import TLS as TLS
from .converters import octal_mode as octal_mode
from .converters import one_of as one_of
from .converters import text_with_escapes as text_with_escapes
from .converters import whole_number as whole_number
from .converters import yes_or_no as yes_or_no
from .errors import DescriptionError as DescriptionError
from .errors import ListenError as ListenError
from .errors import SettingError as SettingError
from .exit import fail_process as fail_process
from .exit import stop_process as stop_process
from .host.host import SocketService as SocketService
from .host.lifespan import Lifespan as Lifespan
from .host.stopping import Stopping as Stopping
from .listening.datagrams import IDatagramServerEndpoint as IDatagramServerEndpoint
from .listening.datagrams import (
    IDatagramServerEndpointStringParser as IDatagramServerEndpointStringParser,
)
from .listening.listeners import Listening as Listening
from .logs import to_stderr as to_stderr
from .output import Output as Output
from .service import IAnswering as IAnswering
from .service import IBatchReceiver as IBatchReceiver
from .service import IDatagramFactory as IDatagramFactory
from .service import IDrainable as IDrainable
from .service import ILifespan as ILifespan
from .service import IPausesListeners as IPausesListeners
from .service import ITruncationReceiver as ITruncationReceiver
from .services.ack import AckFactory as AckFactory
from .services.counter import CounterFactory as CounterFactory
from .services.echo import EchoFactory as EchoFactory
from .services.hello import HelloFactory as HelloFactory
from .services.hexdump import HexdumpFactory as HexdumpFactory
from .settings import setting as setting
from .twistd.declaration import SocketServiceMaker as SocketServiceMaker

__all__: list[str]
