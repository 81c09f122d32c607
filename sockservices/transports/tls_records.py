"""The records of a TLS connection, in fewer steps than pyOpenSSL's methods take.

After every call, even if it has succeeded, pyOpenSSL looks for errors of its callbacks and of
OpenSSL, which takes longer than the encryption of a short record. Here, this is done only after a
call that has failed.

Private names of pyOpenSSL used here, checked with 24.3 to 26.4: ``Connection._from_ssl``,
``_into_ssl``, ``_raise_ssl_error``, ``_ssl``, and ``SSL._ffi`` and ``_lib``. If one of them is
missing, the public methods are used.
"""

from __future__ import annotations

from typing import Any, Protocol

from OpenSSL import SSL

_HEADER = 5  # bytes: the type, two for the version, and two for the length of the rest
_DATA = 1 << 14  # the most bytes of data in a record
_REST = _DATA + 256  # the most bytes in a record after its header
_TYPES = range(20, 24)
_APPLICATION_DATA = 23
_ROOM = 1 << 17  # bytes, more than usually wait to be sent


class Boundaries:
    """Where the records that arrive on a connection begin and end: RFC 8446, section 5."""

    __slots__ = ("_begun", "is_lost", "missing")

    def __init__(self) -> None:
        self.missing = 0
        """How many bytes of the last record are still to come; negative if its header is cut."""
        self.is_lost = False
        """Whether something has arrived that is no record."""
        self._begun = b""  # the part of the header that has arrived

    def follow(self, data: bytes) -> int | None:
        """Return how many records these bytes complete.

        Returns ``None`` if one of them is not application data. In TLS 1.3, records whose type is
        encrypted count as application data.
        """
        at, complete, is_data = self.missing, 0, not self.is_lost
        if at < 0:
            data = self._begun + data
            at = 0
        elif at:
            complete = 1
        size = len(data)
        while size - at >= _HEADER:
            kind, major, minor, high, low = data[at : at + _HEADER]
            rest = high << 8 | low
            if kind != _APPLICATION_DATA or minor != 3:
                is_data = False
            if major != 3 or kind not in _TYPES or rest > _REST:
                self.is_lost = True
                is_data = False
            at += _HEADER + rest
            complete += 1
        self.missing = at - size
        if at > size:
            complete -= 1
        elif at < size:
            self._begun = data[at:]
        return complete if is_data else None


class Records(Protocol):
    """The records of a connection whose handshake is complete.

    The methods raise ``OpenSSL.SSL.Error``.
    """

    def put(self, records: bytes) -> None:
        """Take records, or parts of them, from the peer."""

    def get(self) -> bytes:
        """Return the data of the next record."""

    def encrypt(self, data: bytes | memoryview) -> bytes:
        """Return records with some data, at least a byte, and those that waited to be sent."""


class PublicRecords:
    """Records by pyOpenSSL's public methods.

    Parameters:
        connection: an ``OpenSSL.SSL.Connection`` without a socket.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def put(self, records: bytes) -> None:
        """See ``Records``."""
        self._connection.bio_write(records)

    def get(self) -> bytes:
        """See ``Records``."""
        data: bytes = self._connection.recv(_DATA)
        return data

    def encrypt(self, data: bytes | memoryview) -> bytes:
        """See ``Records``."""
        connection, size = self._connection, len(data)
        sent = connection.send(data)
        while sent < size:
            sent += connection.send(data[sent:])
        room = _room_for(size)
        records: bytes = connection.bio_read(room)
        return records if len(records) < room else records + _rest_of(connection)


def _room_for(size: int) -> int:
    """Return more bytes than the records for so much data have, and a few others."""
    return size + (_HEADER + _REST - _DATA) * (size // _DATA + 2)


def _rest_of(connection: Any) -> bytes:
    parts: list[bytes] = []
    try:
        while True:
            parts.append(connection.bio_read(_ROOM))
    except SSL.WantReadError:
        return b"".join(parts)


class DirectRecords:
    """Records by the functions of OpenSSL that pyOpenSSL calls.

    Parameters:
        connection: an ``OpenSSL.SSL.Connection`` without a socket.
    """

    __slots__ = ("_connection", "_incoming", "_outgoing", "_ssl")

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._ssl = connection._ssl
        self._incoming = connection._into_ssl
        self._outgoing = connection._from_ssl

    def put(self, records: bytes) -> None:
        """See ``Records``."""
        if _bio_write(self._incoming, records, len(records)) != len(records):
            raise MemoryError

    def get(self) -> bytes:
        """See ``Records``."""
        buffer = _allocate(_BYTES, _DATA)
        size = _ssl_read(self._ssl, buffer, _DATA)
        if size <= 0:
            self._connection._raise_ssl_error(self._ssl, size)
        data: bytes = _contents(buffer, size)[:]
        return data

    def encrypt(self, data: bytes | memoryview) -> bytes:
        """See ``Records``."""
        size = left = len(data)
        start: Any = data if data.__class__ is bytes else _address_of(data)
        while True:
            sent = _ssl_write(self._ssl, start, left)
            if sent <= 0:
                self._connection._raise_ssl_error(self._ssl, sent)
            left -= sent
            if not left:
                break
            start = _address_of(data) + (size - left)
        room = _room_for(size)
        buffer = _allocate(_BYTES, room)
        size = _bio_read(self._outgoing, buffer, room)
        records: bytes = _contents(buffer, size)[:]
        return records if size < room else records + _rest_of(self._connection)


def _are_direct() -> bool:
    needed = "_from_ssl", "_into_ssl", "_raise_ssl_error", "_ssl"
    context = SSL.Context(SSL.TLS_METHOD)
    return all(hasattr(SSL.Connection(context), each) for each in needed)


try:
    _ffi: Any = SSL._ffi  # type: ignore[attr-defined]
    _lib: Any = SSL._lib  # type: ignore[attr-defined]
    _allocate = _ffi.new_allocator(should_clear_after_alloc=False)
    _address_of, _contents, _BYTES = _ffi.from_buffer, _ffi.buffer, _ffi.typeof("char[]")
    _bio_read, _bio_write = _lib.BIO_read, _lib.BIO_write
    _ssl_read, _ssl_write = _lib.SSL_read, _lib.SSL_write
    _has_direct = _are_direct()
except AttributeError:
    _has_direct = False

records_of: type[PublicRecords | DirectRecords] = DirectRecords if _has_direct else PublicRecords
"""Gives the records of a connection."""
