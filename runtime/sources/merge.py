"""Messages that hold some of the sensors only, to one sample a period of the model."""

from __future__ import annotations

import time

import numpy as np

from edgekd.runtime.manifest import Manifest
from edgekd.runtime.sources import InputEvent, Row


class Merger:
    """Takes the newest value of each sensor; a sample is whole when all have spoken, or a period is over.

    Time goes by the messages' own labels, else by the monotonic clock of a live input. What a sensor has not said in
    a period is missing: the detector holds its last value, for as long as it may. told: the layout says that messages
    are partial. Else two that begin an input and share no sensor show it; otherwise a key that is absent is a missing
    value, and rows pass as they are.
    """

    def __init__(self, manifest: Manifest, told: bool, live: bool) -> None:
        self._period_s = manifest.period_s
        self._live = live
        self._merging: bool | None = True if told else None
        self._open: Row | None = None
        self._began_s: float | None = None
        self._said = False

    def merge(self, rows: list[Row]) -> list[Row | InputEvent]:
        """The samples that these messages complete, or that time alone does."""
        if self._merging is False:
            return [*rows]
        done: list[Row | InputEvent] = []
        for i, row in enumerate(rows):
            if self._merging is None and not self._decide(row, done):
                return done + ([*rows[i:]] if self._merging is False else self.merge(rows[i + 1 :]))
            done += self._put(row)
        return done + (self._if_over(time.monotonic()) if self._live and self._merging else [])

    def end(self) -> list[Row | InputEvent]:
        """The sample that is open: nothing more will come."""
        row, self._open = self._open, None
        return [] if row is None else [row]

    def _decide(self, row: Row, done: list[Row | InputEvent]) -> bool:
        """Whether to go on with this row; else it waits for the next, or rows pass as they are from it on."""
        said = ~np.isnan(row.values)
        if self._open is None and row.partial:
            self._open = row
            return False
        waiting, self._open = self._open, None
        if waiting is not None and row.partial and np.isnan(waiting.values[said]).all():
            self._merging = True
            words = "messages hold some of the sensors only: those of one period are merged"
            done += [InputEvent("merging", words), *self._put(waiting)]
            return True
        self._merging = False
        done += [] if waiting is None else [waiting]
        return False

    def _put(self, row: Row) -> list[Row | InputEvent]:
        at = row.seconds if row.seconds is not None else time.monotonic() if self._live else None
        said = ~np.isnan(row.values)
        done = [] if at is None else self._if_over(at)
        if self._open is not None and at is None and not np.isnan(self._open.values[said]).all():
            done += self.end()
        if self._open is None:
            self._began_s = at
            self._open = Row(row.values.copy(), row.time, None, row.sequence, row.seconds, row.off)
        else:
            self._open.values[said] = row.values[said]
            self._open.time, self._open.seconds = row.time, row.seconds
            self._open.off = row.off
        return done + (self.end() if not np.isnan(self._open.values).any() else [])

    def _if_over(self, at: float) -> list[Row | InputEvent]:
        over = self._open is not None and self._began_s is not None and at - self._began_s >= self._period_s
        return self.end() if over else []
