"""Why a connection could not be used: its TLS handshake or its PROXY header failed.

OpenSSL's own words are for those who know OpenSSL. Operators need to know whether their
certificate, the client or somebody else's scanner is at fault.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from sockservices.connections.ledger import Connection, Reason

# Parts of OpenSSL's reasons, of versions 1.1.1 to 4.0, and what they mean. The first that is found
# counts.
_MEANINGS = {
    "http request": "the client speaks HTTP without TLS",
    "wrong version number": "the client does not speak TLS",
    "unknown protocol": "the client does not speak TLS",
    "record layer failure": "the client does not speak TLS",
    "packet length too long": "the client does not speak TLS",
    "bad record type": "the client does not speak TLS",
    "unsupported protocol": "the client supports only versions of TLS before 1.2",
    "version too low": "the client supports only versions of TLS before 1.2",
    "no shared cipher": "the client supports none of the ciphers of this service",
    "no suitable": "the client supports none of the signatures or groups of this service",
    "did not return a certificate": "the client has no certificate (--tls-client-ca)",
    "alert unknown ca": "the client does not trust the issuer of this service's certificate",
    "alert certificate expired": "the client finds that this service's certificate has expired",
    "alert certificate unknown": "the client does not accept this service's certificate",
    "alert bad certificate": "the client does not accept this service's certificate",
    "alert unsupported certificate": "the client does not support this service's certificate",
}

# Of X509_STORE_CTX_get_error(3).
_NOT_VALID = {
    9: "is not valid yet",
    10: "has expired",
    18: "is not signed by an issuer in --tls-client-ca, but by itself",
    19: "is not signed by an issuer in --tls-client-ca",
    20: "is not signed by an issuer in --tls-client-ca",
    21: "is not signed by an issuer in --tls-client-ca",
    23: "has been revoked",
    26: "is not for clients",
}


def why_it_failed(connection: Connection, end: Failure) -> Reason | None:
    """Return why a connection has ended before its service could use it, or ``None``.

    What happened is left in ``connection.detail``.

    Parameters:
        connection: a connection with layers, which has ended.
        end: how its transport has ended.
    """
    layers: Any = connection.layers
    connection.layers = None
    if connection.cut is not None or layers.was_given_up or layers.are_ready():
        return None
    if layers.has_header:
        connection.detail = _words(layers, connection, end)
        return "handshake"
    if layers.header.disconnecting and not connection.bytes_in:  # the service has closed it
        return None
    return "proxy-header"


def _words(layers: Any, connection: Connection, end: Failure) -> str:
    error = layers.tls_error
    reasons = [each[2] for each in _errors(error)]
    if not reasons or reasons[-1].startswith("unexpected eof"):
        ended = "closed" if end.check(ConnectionDone) else "reset"
        when = "during the TLS handshake" if connection.bytes_in else "before it sent anything"
        return f"the client {ended} the connection {when}"
    text = ", ".join(dict.fromkeys(reasons))
    if "certificate verify failed" in text and layers.verify_error is not None:
        number = layers.verify_error
        return f"the client's certificate {_NOT_VALID.get(number, f'is not valid: {number}')}"
    return next((words for part, words in _MEANINGS.items() if part in text.lower()), text)


def _errors(error: Exception | None) -> list[tuple[str, str, str]]:
    """Return the entries of OpenSSL's error queue; an end of file has none."""
    found = error.args[0] if error is not None and error.args else []
    return found if isinstance(found, list) else []
