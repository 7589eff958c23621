"""Values that come at odd times, aligned to the model's period.

Time is cut into cells of one period; what is said within a cell becomes one sample. Pure: no clock of its own.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

Rule = Literal["mean", "last"]
EDGE = 1e-3  # of a cell: 0.3 s is not in the third tenth of a second because a float says 0.29999…
SET_BACK = 32  # values in a row that are all older than the open cell: not stragglers, the clock has been set back


class Grid:
    """Aligns the values of n sensors to cells of `period_s`.

    rule: what a cell says of a sensor, the "mean" of what was said in it, or the "last".
    longest_gap: at most so many cells in a row are told as empty; then the grid starts anew with the next value.
    aligned: cells begin at whole periods of the clock, as 12:00 begins a minute, which suits values that come many to
    a cell. Else the first value lies in the middle of the first cell, so that those that come one to a cell may jitter
    by half a period before two share one.
    """

    def __init__(
        self, n: int, period_s: float, rule: Rule = "mean", longest_gap: int = 600, aligned: bool = False
    ) -> None:
        self.late = 0
        """Values dropped because their cell was over."""
        self.restarts = 0
        """Times that the grid started anew: after a longer gap than `longest_gap`, or a clock that was set back."""
        self.times: list[float] = []
        """Middle of each cell that the last call returned, on the clock of `put`."""
        self._period_s = period_s
        self._last_wins = rule == "last"
        self._longest_gap = longest_gap
        self._aligned = aligned
        self._sum = np.zeros(n)  # (n,) of what was said in the open cell
        self._count = np.zeros(n, np.int64)
        self._first_s: float | None = None  # middle of cell 0; None: nothing was said yet
        self._open = 0
        self._empty = 0  # empty cells in a row before the open one
        self._late_in_a_row = 0

    def put(self, seconds: float, values: np.ndarray) -> list[np.ndarray]:
        """What was said at a time: values (n,) raw units, not finite where nothing was said of a sensor.

        The samples, float32 (n,), of the cells that are complete now, the oldest first; NaN where a cell says nothing
        of a sensor.
        """
        self.times = []
        if not math.isfinite(seconds):
            self.late += 1
            return []
        done = self.tick(seconds)
        behind = 0 if self._first_s is None else self._open - self._cell(seconds)
        if behind > 0:
            self._late_in_a_row += 1
            if behind <= self._longest_gap and self._late_in_a_row <= SET_BACK:
                self.late += 1
                return done
            if self._count.any():
                done.append(self._close())
            self._start_anew()
        self._late_in_a_row = 0
        if self._first_s is None:
            self._first_s, self._open, self._empty = seconds, 0, 0
            if self._aligned:
                self._first_s = (math.floor(seconds / self._period_s + EDGE) + 0.5) * self._period_s
        said = np.isfinite(values)
        if self._last_wins:
            self._sum[said] = self._count[said] = 0
        self._sum[said] += values[said]
        self._count += said
        return done

    def tick(self, seconds: float) -> list[np.ndarray]:
        """The samples of the cells that are complete by this time, though nothing more was said."""
        self.times = []
        done: list[np.ndarray] = []
        while self._first_s is not None and self._open < self._cell(seconds):
            self._empty = 0 if self._count.any() else self._empty + 1
            if self._empty > self._longest_gap:
                self._start_anew()
            else:
                done.append(self._close())
        return done

    def end(self) -> list[np.ndarray]:
        """The sample of the open cell, if anything was said in it: nothing more will be."""
        self.times = []
        return [self._close()] if self._count.any() else []

    def _cell(self, seconds: float) -> int:
        assert self._first_s is not None
        return math.floor((seconds - self._first_s) / self._period_s + 0.5 + EDGE)

    def _close(self) -> np.ndarray:
        """The open cell's sample; the next cell is open then."""
        assert self._first_s is not None
        self.times.append(self._first_s + self._open * self._period_s)
        sample = np.full(len(self._sum), np.nan)
        np.divide(self._sum, self._count, out=sample, where=self._count > 0)
        self._sum[:] = 0
        self._count[:] = 0
        self._open += 1
        return sample.astype(np.float32)

    def _start_anew(self) -> None:
        self._first_s = None
        self.restarts += 1
