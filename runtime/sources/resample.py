"""Values at another rate than the model's (`--resample`), or at odd times: one sample a cell of its period."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable

import numpy as np

from edgekd.runtime.errors import UsageError
from edgekd.runtime.layout import Layout
from edgekd.runtime.manifest import Manifest
from edgekd.runtime.sources import InputEvent, Row, Tally, window_samples

EDGE = 1e-3  # of a cell: 0.3 s is not in the third tenth of a second because a float says 0.29999…
SET_BACK = 32  # values in a row that are all older than the open cell: not stragglers, the clock has been set back


class Resampler:
    """Aligns rows to cells of one period by their time labels, a live source's without any by the monotonic clock.

    A cell says the "mean" of a sensor's values in it, or the "last"; it has the label of its newest row. After as many
    empty cells as the detector looks back, and where the clock was set back, the grid starts anew and tells it.

    aligned: cells begin at whole periods of the clock, as 12:00 begins a minute: for many values to a cell. Else the
    first value lies in the middle of the first cell, so that one value to a cell may jitter by half a period.
    """

    aligns: bool | None = True  # whether rows become samples in another way than one by one; None: not known yet

    slack = 0  # cells that are over and whose values still count, in the open one

    def __init__(
        self, manifest: Manifest, layout: Layout, live: bool, tally: Tally, source: str = "", aligned: bool = True
    ) -> None:
        self._tally = tally
        self._period_s = manifest.period_s
        self._last_wins = layout.resample != "mean"
        self._kind = np.float64 if layout.difference else np.float32
        self._longest_gap = window_samples(manifest)
        self._live = live
        self._source = source
        self._aligned = aligned
        self._sum = np.zeros(len(manifest.names))  # (n,) of what was said in the open cell
        self._count = np.zeros(len(manifest.names), np.int64)
        self._first_s: float | None = None  # middle of cell 0; None: nothing was said yet
        self._open = 0
        self._off = False  # the open cell held a row that is not for the detector
        self._labeled_s: float | None = None  # time of the newest row that said one
        self._newest: Row | None = None
        self._empty = 0  # empty cells in a row before the open one
        self._late_in_a_row = 0

    def resample(self, rows: Iterable[Row]) -> list[Row | InputEvent]:
        """The samples that these rows complete, or that time alone does."""
        items: list[Row | InputEvent] = []
        for row in rows:
            items += self.put(self._seconds(row), row.values, row.off)
            self._newest = row
        if self._live and self._labeled_s is None:
            items += self.tick(time.monotonic())
        return items

    def put(self, seconds: float, values: np.ndarray, off: bool = False) -> list[Row | InputEvent]:
        """The samples of the cells that are complete now, the oldest first.

        values: (n,) raw units, not finite where nothing was said of a sensor. off: they are not for the detector.
        """
        done = self.tick(seconds)
        behind = 0 if self._first_s is None else self._open - self._cell(seconds)
        if behind > self.slack:
            self._late_in_a_row += 1
            if behind <= self._longest_gap and self._late_in_a_row <= SET_BACK:
                self._tally.refuse("values come too late")
                return done
            done += [*self.end(), self._start_anew()]
        self._late_in_a_row = 0
        if self._first_s is None:
            self._first_s, self._open, self._empty = seconds, 0, 0
            if self._aligned:
                self._first_s = (math.floor(seconds / self._period_s + EDGE) + 0.5) * self._period_s
        self._off = self._off or off
        said = np.isfinite(values) & (not off)
        if self._last_wins:
            self._sum[said] = self._count[said] = 0
        self._sum[said] += values[said]
        self._count += said
        return done

    def tick(self, seconds: float) -> list[Row | InputEvent]:
        """The samples of the cells that are complete by this time, though nothing more was said."""
        done: list[Row | InputEvent] = []
        while self._first_s is not None and self._open < self._cell(seconds):
            self._empty = 0 if self._count.any() else self._empty + 1
            done.append(self._close() if self._empty <= self._longest_gap else self._start_anew())
        return done

    def end(self) -> list[Row | InputEvent]:
        """The sample of the open cell, if anything was said in it: nothing more will be."""
        return [self._close()] if self._count.any() else []

    def _cell(self, seconds: float) -> int:
        assert self._first_s is not None
        return math.floor((seconds - self._first_s) / self._period_s + 0.5 + EDGE)

    def _middle_s(self) -> float:
        assert self._first_s is not None
        return self._first_s + self._open * self._period_s

    def _close(self) -> Row:
        """The open cell's sample; the next cell is open then."""
        sample = np.full(len(self._sum), np.nan)
        np.divide(self._sum, self._count, out=sample, where=self._count > 0)
        off, self._off = self._off and not self._count.any(), False
        self._sum[:] = self._count[:] = 0
        self._open += 1
        label, seconds = (self._newest.time, self._newest.seconds) if self._newest else (None, None)
        return Row(sample.astype(self._kind), label, seconds=seconds, off=bool(off))

    def _start_anew(self) -> InputEvent:
        self._first_s = None
        words = "the input was silent for long, or its clock was set; verdicts come again after the warm-up"
        return InputEvent("input_gap", words, {"samples": None, "reason": "time"}, rewarm=True)

    def _seconds(self, row: Row) -> float:
        """When a row was; one that lacks its label is taken with the row before."""
        if row.seconds is not None:
            self._labeled_s = row.seconds
        if self._labeled_s is not None:
            return self._labeled_s
        if self._live:
            return time.monotonic()
        lacking = f"{self._source}: --resample needs a time label in each row, and there is none"
        raise UsageError(f"{lacking}; name its column with --time")
