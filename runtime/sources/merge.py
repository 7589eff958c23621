"""Messages that hold some of the sensors only, to one sample a period of the model."""

from __future__ import annotations

import time
from collections.abc import Iterable

import numpy as np

from edgekd.runtime.layout import Layout
from edgekd.runtime.manifest import Manifest
from edgekd.runtime.sources import InputEvent, Row, Tally
from edgekd.runtime.sources.resample import Resampler

SAME = 0.75  # of a period: a sensor that speaks again sooner is a fast one, and has said something newer


class Merger(Resampler):
    """Takes the newest value of each sensor; a sample is whole when all have spoken, and has its first message's label.

    One that stays in part ends a period after the last, with a sensor's next value, or half a period later. Time is
    the messages' own, else a live input's clock; in a file without any, a sensor's next value ends it.

    Unless it is told that messages hold parts (`aligns`), two that begin an input and share no sensor show it. Where
    they share some, or one holds all, an absent sensor is a missing value, and rows pass as they are.
    """

    slack = 1

    def __init__(self, manifest: Manifest, layout: Layout, live: bool, tally: Tally) -> None:
        super().__init__(manifest, layout, live, tally, aligned=False)
        self.aligns = None
        self._held: list[Row] = []  # the first message, while nobody knows what it is
        self._first: np.ndarray | None = None  # sensors that it holds
        self._spoke_s = np.full(len(manifest.names), -np.inf)  # when each sensor did last

    def resample(self, rows: Iterable[Row]) -> list[Row | InputEvent]:
        """The samples that these messages complete, or that time alone does."""
        items: list[Row | InputEvent] = []
        if self.aligns:
            rows, self._held = [*self._held, *rows], []
        for row in rows:
            items += self._add(row) if self.aligns else [row] if self.aligns is False else self._decide(row)
        if self._live and self._labeled_s is None and self._count.any():  # silence is no sample
            items += self.tick(time.monotonic())
        return items

    def end(self) -> list[Row | InputEvent]:
        """What is left: nothing more will come."""
        return [*self._held, *super().end()]

    def _decide(self, row: Row) -> list[Row | InputEvent]:
        says = ~np.isnan(row.values)
        if self._first is None:
            self._held, self._first = [row], says
            return []
        if row.partial and says.any() and not (says & self._first).any():
            self.aligns = True
            words = "messages hold some of the sensors only: those of one period are merged"
            return [InputEvent("merging", words), *self.resample([row])]
        if not row.partial or (says.any() and (says != self._first).any()):
            self.aligns = False
        held, self._held = self._held, []
        return [*held, row]

    def _add(self, row: Row) -> list[Row | InputEvent]:
        timed = self._live or row.seconds is not None or self._labeled_s is not None
        begun = self._first_s is not None
        seconds = self._seconds(row) if timed else self._middle_s() if begun else 0.0
        if not begun:
            self._first_s, self._open, self._empty = seconds + self._period_s / 2, 0, 0
        said = np.isfinite(row.values) & (not row.off)
        done = self.tick(seconds)
        again = said & (self._count > 0) & (seconds - self._spoke_s > SAME * self._period_s)
        if again.any() and seconds >= self._middle_s():
            done.append(self._close())
        self._spoke_s[said] = seconds if timed else -np.inf
        if not self._count.any():
            self._newest = row
        late = self._tally.bad
        done += self.put(seconds, row.values, row.off)
        if self._tally.bad == late and (self._count.all() or not row.partial):
            done.append(self._close())
            self._first_s = seconds - (self._open - 1) * self._period_s  # the next is due in a period
        return done
