"""lines_factory.LinesFactory: what ``sock-serve --factory`` runs for the project's own entries.

It does not set TCP_NODELAY itself.
"""

from __future__ import annotations

import attrs
from twisted.internet.protocol import Protocol, ServerFactory

from sockservices import setting, whole_number


class Lines(Protocol):
    """A connection that sends back what it receives, several times."""

    def __init__(self, lines: int) -> None:
        self._lines = lines

    def dataReceived(self, data: bytes) -> None:
        """Send the data back several times, with one write each."""
        assert self.transport is not None
        for _ in range(self._lines):
            self.transport.write(data)


@attrs.define(eq=False, slots=False)
class LinesFactory(ServerFactory):
    """The factory of the service."""

    lines: int = setting(
        default=2, converter=whole_number(1), help="Write this many times for each read."
    )
    noisy = False

    def buildProtocol(self, addr: object) -> Lines:
        """See ``IProtocolFactory.buildProtocol``."""
        return Lines(self.lines)
