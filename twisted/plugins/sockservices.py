"""The Twisted plugins of sockservices.

The top-level names of this file never change, because Twisted's plugin cache may outlive a version.
"""

from twisted.application.reactors import Reactor
from twisted.application.service import ServiceMaker

from sockservices.twistd.declaration import SocketServiceMaker

sock_echo = SocketServiceMaker(
    "sock-echo",
    "Sends back what it receives (RFC 862).",
    stream="sockservices.services.echo.EchoFactory",
    datagram="sockservices.services.echo.EchoFactory",
)

sock_counter = SocketServiceMaker(
    "sock-counter",
    "Tells each connection its number.",
    stream="sockservices.services.counter.CounterFactory",
)

sock_hexdump = SocketServiceMaker(
    "sock-hexdump",
    "Prints each datagram, or each read of a stream, as hex.",
    stream="sockservices.services.hexdump.HexdumpFactory",
    datagram="sockservices.services.hexdump.HexdumpFactory",
    first="datagram",
)

sock_ack = SocketServiceMaker(
    "sock-ack",
    "Prints one message of each connection and acknowledges it.",
    stream="sockservices.services.ack.AckFactory",
)

sock_hello = SocketServiceMaker(
    "sock-hello",
    "Greets each connection.",
    stream="sockservices.services.hello.HelloFactory",
)

sock_serve = ServiceMaker(
    "sock-serve",
    "sockservices.twistd.sock_serve",
    "Serves any protocol factory or datagram protocol, by its dotted name.",
    "sock-serve",
)

sock = ServiceMaker(
    "sock",
    "sockservices.twistd.installed",
    "Runs any service that an installed package declares as an entry point.",
    "sock",
)

eager_reactor = Reactor(
    "eager",
    "sockservices.transports",
    "Linux epoll with transports that write at once (sockservices).",
)
