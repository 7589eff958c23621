"""Does the input come at the rate that the model was made for?

A model of one-minute data that is fed once a second runs without an error and is silently wrong.
"""

from __future__ import annotations

import numpy as np

INTERVALS = 32  # a median over this many is not moved by a stall or a hiccup
FACTOR = 1.5  # clocks drift by percents; a wrong unit or a forgotten decimation is a factor


class RateCheck:
    """Compares the time between samples with the model's period, once, at the start of an input."""

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s
        self._last: float | None = None
        self._intervals: list[float] = []
        self.done = False
        """Nothing more to observe."""

    def observe(self, seconds: float, samples: int = 1) -> float | None:
        """`samples` more samples have come up to this time; the observed period in s once it is known to be wrong."""
        if self._last is not None and samples > 0 and seconds > self._last:
            self._intervals.append((seconds - self._last) / samples)
        self._last = seconds
        if len(self._intervals) < INTERVALS:
            return None
        self.done = True
        period_s = float(np.median(self._intervals))
        return None if 1 / FACTOR <= period_s / self._period_s <= FACTOR else period_s

    def gap(self) -> None:
        """The input was interrupted: the next interval says nothing."""
        self._last = None
