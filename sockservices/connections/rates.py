"""Rate limits, over all sources and for each source."""

from __future__ import annotations

import re
from collections import OrderedDict, deque
from typing import Any, Literal

import attrs

from sockservices.converters import some_seconds, whole_number

_MOST_IN_A_RATE = 1_000_000  # because each time is remembered

# The most sources, and times of all sources together, to remember. Beyond these, the sources that
# have been quiet for longest are forgotten.
_MOST_SOURCES = 1 << 16
_MOST_TIMES = 1 << 20


def _times(value: str | int) -> int:
    return whole_number(1, _MOST_IN_A_RATE)(value)


@attrs.frozen
class Rate:
    """A rate limit: at most ``count`` in any period of ``seconds``.

    Parameters:
        count: the most in one period, from 1 to 1,000,000.
        seconds: the length of the period, more than 0.

    Raises ``ValueError``.
    """

    count: int = attrs.field(converter=_times)
    seconds: float = attrs.field(converter=some_seconds)

    def __str__(self) -> str:
        return f"{self.count}/{self.seconds:g}"


def to_rate(value: str | Rate) -> Rate:
    """Convert ``100/60``, at most 100 in 60 seconds; raise ``ValueError`` for anything else."""
    if isinstance(value, Rate):
        return value
    parts = re.fullmatch(r"([0-9]+)/([0-9]+(?:\.[0-9]+)?)", value)
    if parts is None:
        raise ValueError(f"{value!r} is not a rate, such as 100/60 for 100 in 60 seconds")
    try:
        return Rate(parts[1], parts[2])
    except ValueError as error:
        raise ValueError(f"{value!r} is not a rate: {error}") from None


class Rates:
    """The overall rate and the rate of each source, for connections or for datagrams.

    It is written for speed, because it is asked about each of them.
    """

    def __init__(self) -> None:
        self._rates: tuple[Rate | None, Rate | None] = (None, None)
        self._most = self._most_each = 0  # 0 is no limit
        self._seconds = self._seconds_each = 0.0
        self._all: deque[float] = deque()
        self._each: OrderedDict[Any, deque[float]] = OrderedDict()
        self.times = 0
        """The number of times that are remembered for all sources together."""

    @property
    def sources(self) -> int:
        """The number of sources that are remembered."""
        return len(self._each)

    def hold_to(self, of_all: Rate | None, of_each: Rate | None) -> None:
        """Replace the rates; a rate that changes starts counting from zero."""
        before_all, before_each = self._rates
        self._rates = of_all, of_each
        if of_all != before_all:
            self._most, self._seconds = _parts(of_all)
            self._all = deque(maxlen=self._most)
        if of_each != before_each:
            self._most_each, self._seconds_each = _parts(of_each)
            self._each.clear()
            self.times = 0

    def refusal(self, source: Any, now: float) -> Literal["rate", "rate-per-source"] | None:
        """Return why one more is too many, or count it and return ``None``.

        Parameters:
            source: the source that it is counted under; ``None`` has no rate per source.
            now: the time in seconds.
        """
        entered, most = self._all, self._most
        if len(entered) == most and most and now - entered[0] < self._seconds:
            return "rate"
        most_each = self._most_each
        if most_each and source is not None:
            each = self._each
            own = each.get(source)
            if own is None:
                own = each[source] = deque(maxlen=most_each)
            else:
                each.move_to_end(source)
            if len(own) == most_each:
                if now - own[0] < self._seconds_each:
                    return "rate-per-source"
                self.times -= 1
            own.append(now)
            self.times += 1
            if len(own) == 1 or self.times > _MOST_TIMES:
                self._forget_some(now - self._seconds_each)
        if most:
            entered.append(now)
        return None

    def _forget_some(self, expired: float) -> None:
        """Forget the sources whose times have expired, and the oldest if there are too many."""
        each = self._each
        while len(each) > 1:
            oldest = next(iter(each))
            entered = each[oldest]
            are_too_many = len(each) > _MOST_SOURCES or self.times > _MOST_TIMES
            if entered[-1] > expired and not are_too_many:
                return
            self.times -= len(entered)
            del each[oldest]


def _parts(rate: Rate | None) -> tuple[int, float]:
    return (rate.count, rate.seconds) if rate is not None else (0, 0.0)
