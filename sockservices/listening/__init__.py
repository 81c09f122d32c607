"""From an endpoint description to a listening port: streams, datagrams, inherited sockets.

The face of this room is ``listener``: it reads a description and returns what can listen there.
"""

from sockservices.listening.datagram_ports import DatagramPort, UnixDatagramPort
from sockservices.listening.datagrams import (
    IDatagramServerEndpoint,
    IDatagramServerEndpointStringParser,
)
from sockservices.listening.descriptions import (
    Description,
    backlog_length,
    description_of,
    ip_address,
    not_empty,
    port_number,
)
from sockservices.listening.errors import DescriptionError, ListenError, why_not_listening
from sockservices.listening.listeners import (
    DatagramListener,
    Listener,
    Listening,
    StreamListener,
    listener,
)
from sockservices.listening.unix_paths import abstract_address, checked_path

__all__ = [
    "DatagramListener",
    "DatagramPort",
    "Description",
    "DescriptionError",
    "IDatagramServerEndpoint",
    "IDatagramServerEndpointStringParser",
    "ListenError",
    "Listener",
    "Listening",
    "StreamListener",
    "UnixDatagramPort",
    "abstract_address",
    "backlog_length",
    "checked_path",
    "description_of",
    "ip_address",
    "listener",
    "not_empty",
    "port_number",
    "why_not_listening",
]
