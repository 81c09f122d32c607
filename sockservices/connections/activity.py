"""How long a peer has been idle.

A peer is active when it sends, and also when it takes what the service has sent: a download is no
idle connection. Time in which it could do neither is not counted: the service has paused reading,
what it sent waits to be read, or the process did not run (a paused container, a moved machine).

Receiving data costs nothing extra for this: the connections are looked at from time to time, and
have been active if their counters have changed since the last look.
"""

from __future__ import annotations

from sockservices.connections.ledger import Connection

_LATE = 0.25  # seconds; a call that is later than this finds that the process did not run


def held_up(late: float) -> float:
    """Return for how many seconds the process did not run, 0 if it only had other work.

    Parameters:
        late: the seconds by which a delayed call is late.
    """
    return late if late > _LATE else 0.0


def is_idle(connection: Connection, now: float, seconds: float, paused: float = 0.0) -> bool:
    """Return whether a peer has been idle for so long; call it at intervals.

    Parameters:
        connection: the connection, which keeps what was found.
        now: ``time.monotonic()``.
        seconds: how long is too long.
        paused: the seconds since the last look in which the process did not run.
    """
    bytes_in = connection.bytes_in
    if bytes_in != connection.heard:
        connection.heard = bytes_in
        connection.active = now
    if connection.bytes_out != connection.taken:  # otherwise it had taken everything
        taken = getattr(connection.transport, "taken", connection.bytes_out)
        if taken != connection.taken:
            connection.taken = taken
            connection.active = now
    last = max(connection.active, connection.opened)
    if paused:
        connection.active = last = min(last + paused, now)
    if now - last < seconds:
        return False
    if getattr(connection.transport, "waits_for_us", False):
        connection.active = now
        return False
    return True
