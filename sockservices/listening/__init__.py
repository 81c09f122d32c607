"""From an endpoint description to a listening port: streams, datagrams, inherited sockets.

The entry point is ``listener``, which reads a description and returns a listener.
"""

from sockservices.listening.datagrams import (
    IDatagramServerEndpoint,
    IDatagramServerEndpointStringParser,
    datagram_prefixes,
)
from sockservices.listening.descriptions import (
    Description,
    abstract_address,
    backlog_length,
    checked_path,
    description_of,
    ip_address,
    not_empty,
    port_number,
)
from sockservices.listening.inherited import INHERITING, untaken
from sockservices.listening.listeners import (
    DatagramListener,
    Listener,
    Listening,
    StreamListener,
    listener,
)

__all__ = [
    "INHERITING",
    "DatagramListener",
    "Description",
    "IDatagramServerEndpoint",
    "IDatagramServerEndpointStringParser",
    "Listener",
    "Listening",
    "StreamListener",
    "abstract_address",
    "backlog_length",
    "checked_path",
    "datagram_prefixes",
    "description_of",
    "ip_address",
    "listener",
    "not_empty",
    "port_number",
    "untaken",
]
