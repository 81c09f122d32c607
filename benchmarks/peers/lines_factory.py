"""lines_factory.LinesFactory: what ``sock-serve --factory`` runs for the project's own entries.

It does not set TCP_NODELAY itself.
"""

from __future__ import annotations

import attrs
from twisted.internet.protocol import Protocol, ServerFactory

from sockservices import setting, whole_number


class Lines(Protocol):
    """Sends back what arrives, so many times."""

    def __init__(self, lines: int) -> None:
        self._lines = lines

    def dataReceived(self, data: bytes) -> None:
        """Send it back, one write each."""
        assert self.transport is not None
        for _ in range(self._lines):
            self.transport.write(data)


@attrs.define(eq=False, slots=False)
class LinesFactory(ServerFactory):
    """Answers every connection alike."""

    lines: int = setting(default=2, converter=whole_number(1), help="Writes for each read.")
    noisy = False

    def buildProtocol(self, addr: object) -> Lines:
        """See ``IProtocolFactory.buildProtocol``."""
        return Lines(self.lines)
