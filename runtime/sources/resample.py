"""Rows at another rate than the model's, or at odd times, to samples at its period (`--resample`)."""

from __future__ import annotations

import time
from collections.abc import Iterable

from edgekd.runtime.errors import UsageError
from edgekd.runtime.manifest import Manifest
from edgekd.runtime.sources import InputEvent, Row, window_samples
from edgekd.runtime.sources.row_parser import seconds_of
from edgekd.runtime.sources.time_grid import Grid, Rule


class Resampler:
    """Rows through a Grid, by their time labels; rows of a live source without any by the monotonic clock.

    Raises UsageError where the rows of a recording have no time labels.
    """

    def __init__(self, manifest: Manifest, rule: Rule, live: bool, source: str) -> None:
        self.grid = Grid(len(manifest.sensors), manifest.period_s, rule, window_samples(manifest), aligned=True)
        self._live = live
        self._source = source
        self._labeled_s: float | None = None  # time of the newest row that said one
        self._label: str | float | None = None
        self._restarts = 0

    def resample(self, rows: Iterable[Row]) -> list[Row | InputEvent]:
        """The samples that these rows complete, or that time alone does."""
        items: list[Row | InputEvent] = []
        for row in rows:
            items += self._told(self.grid.put(self._seconds(row), row.values))
            self._label = row.time
        if self._live and self._labeled_s is None:
            items += self._told(self.grid.tick(time.monotonic()))
        return items

    def end(self) -> list[Row | InputEvent]:
        """The sample that was open when the input ended for good."""
        return self._told(self.grid.end())

    def _seconds(self, row: Row) -> float:
        """When a row was; one that lacks its label is taken with the row before."""
        if (seconds := seconds_of(row.time)) is not None:
            self._labeled_s = seconds
        if self._labeled_s is not None:
            return self._labeled_s
        if self._live:
            return time.monotonic()
        lacking = f"{self._source}: --resample needs a time label in each row, and there is none"
        raise UsageError(f"{lacking}; name its column with --time")

    def _told(self, samples: Iterable) -> list[Row | InputEvent]:
        items: list[Row | InputEvent] = [Row(sample, self._label) for sample in samples]
        if self._restarts != self.grid.restarts:
            self._restarts = self.grid.restarts
            words = "the input was silent for long, or its clock was set; verdicts come again after the warm-up"
            items.append(InputEvent("input_gap", words, {"samples": None, "reason": "time"}, rewarm=True))
        return items
