"""The twistd plugin of the key-value store."""

from sockservices import SocketServiceMaker

keyvalue = SocketServiceMaker(
    "example-keyvalue",
    "Keys and values over TLS, each client its own.",
    stream="keyvalue.KeyValueFactory",
)
