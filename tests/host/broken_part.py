"""A part of a host that fails where it is told to."""

from __future__ import annotations

from typing import Any

import attrs

from sockservices.connections.parts import Context, Part, RunningPart
from sockservices.settings import setting


@attrs.frozen
class Fixed(Part):
    heading = "Fixed"

    word: str = setting(default="", help="Stay as it is.", changeable=False)
    many: int = setting(default=0, help="Go with a Unix listener.", listener="Unix stream")

    def begin(self, context: Context) -> RunningPart[Fixed]:
        return RunningPart(self, context)


class RunningBroken(RunningPart[Fixed]):
    """Fails in one hook."""

    def apply(self, settings: Fixed, prepared: object) -> None:
        self.settings = settings
        if settings.word == "apply":
            raise RuntimeError("apply")
        for name in ("ask_socket", "ask_peer", "ask_datagram", "entered", "waiting"):
            setattr(self, name, self._fail if name == settings.word else None)

    def _fail(self, *_about: Any) -> None:
        raise RuntimeError(self.settings.word)


@attrs.frozen
class Broken(Fixed):
    word: str = setting(default="", help="Where to fail.")

    def begin(self, context: Context) -> RunningPart[Fixed]:
        return RunningBroken(self, context)
