"""What the key-value service plugs into twistd."""

from sockservices import SocketServiceMaker

keyvalue = SocketServiceMaker(
    "example-keyvalue",
    "Keys and values over TLS, each client its own.",
    stream="keyvalue.KeyValueFactory",
)
