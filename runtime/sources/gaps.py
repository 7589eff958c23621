"""Rows that carry a count or a time: duplicates and stragglers are dropped, gaps found.

A short gap is filled with missing samples; after one longer than the detector's window, it warms up again.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from edgekd.runtime.json_fields import shown
from edgekd.runtime.layout import Layout
from edgekd.runtime.manifest import Manifest
from edgekd.runtime.sources import InputEvent, Row, Tally, window_samples

SET_BACK = 32  # old rows one after the other: no stragglers, the sender or its clock began again
STEADY = 32  # intervals of about the period, one after the other, before time labels are believed
NEXT = 2  # samples after a jump at which a row goes on from it: one may be lost between them
MOST_HELD = 4  # rows that jump one after the other, none of which goes on from another: perhaps they come so
WRAPS = (2**8, 2**16, 2**32, 2**64)


class Gaps:
    """Puts the rows of one input in order, by their count or by their time; counts the rows that it drops.

    By the source's count of samples, where the layout names one, else by time labels, once they have come steadily at
    the model's period. A row that is not next waits for the one after it: where that goes on from before, the label was
    damaged, and the row is kept where one is missing. Where no time can be read, that is told, once.
    """

    def __init__(self, manifest: Manifest, layout: Layout, tally: Tally) -> None:
        self._tally = tally
        self._by_time = bool(layout.resample) or not layout.sequence
        self._kind = "time" if self._by_time else "sequence"
        self._period_s = manifest.period_s
        self._window = self._longest = window_samples(manifest)
        self._hold = manifest.max_hold_samples
        self._missing = np.full(len(manifest.sensors), np.nan, np.float32)
        self._wraps_at = self._wrapped = layout.sequence_wraps_at  # 0: as the numbers tell
        self._largest = self._steady = 0
        self._tell = self._by_time and bool(layout.time)
        self.several = False
        """Rows are yet to be made samples: their labels may repeat, and what is missing is not filled."""
        self._last: float | None = None  # count or seconds of the newest row that was believed
        self._label: object = None  # of that row
        self._since = self._unlabeled = 0  # rows since then, and those without a label
        self._jumped_to: float | None = None  # by the newest row that waits and is not just old
        self.waiting: list[tuple[Row, float | None]] = []
        """Rows that are not given out yet, with their counts or seconds."""

    def judge(self, rows: Iterable[Row]) -> None:
        """Believe the labels of a file from its first row on, and fill as in training, where they come steadily."""
        steps = np.diff([row.seconds for row in rows if row.seconds is not None])
        if len(steps) and self._is_step(float(np.median(steps))):
            self._steady, self._longest = STEADY, min(self._hold, self._window)

    def restart(self) -> None:
        """What comes next is not to be compared with what came before."""
        self._damaged(in_place=False)
        self._last = None

    def arrange(self, rows: Iterable[Row], ended: bool = False) -> list[Row | InputEvent]:
        """The rows that are known to be new, with what is missing between them. ended: no more will come."""
        items: list[Row | InputEvent] = []
        for row in rows:
            at = row.seconds if self._by_time else row.sequence
            self._since += 1
            ahead = 0 if at is None else self._ahead(self._last, at)
            old = -self._window <= ahead <= 0
            if at is None and not self.waiting:
                items += self._believed(row, at, ahead)
            elif 0 < ahead <= self._since or (old and self.several and at is not None):
                if self.waiting:
                    items += self._damaged(in_place=self.several or ahead == self._since)
                items += self._believed(row, at, ahead)
            else:
                self.waiting.append((row, at))
                if not old or len(self.waiting) > SET_BACK:
                    goes_on = at is not None and self._goes_on(at)
                    self._jumped_to = at
                    if goes_on or old or len(self.waiting) > MOST_HELD:
                        items += self._jumped()
        return items + self._jumped() if ended else items

    def _goes_on(self, at: float) -> bool:
        """Whether it follows the jump: soon, or where rows are left out regularly, as far as that was."""
        to = self._jumped_to
        return to is not None and 0 < self._ahead(to, at) <= max(NEXT, min(self._hold, self._ahead(self._last, to)))

    def _damaged(self, in_place: bool) -> list[Row]:
        """The rows that waited, without their labels, where there is a place for each; else none."""
        waited, self.waiting, self._jumped_to = self.waiting, [], None
        for row, _ in waited:
            self._refuse(row)
            if self._by_time:
                row.time = row.seconds = None
        self._unlabeled += len(waited) * in_place
        return [row for row, _ in waited] if in_place else []

    def _jumped(self) -> list[Row | InputEvent]:
        """Those of the rows that waited that lead to the newest jump."""
        to = self._last if self._jumped_to is None else self._jumped_to
        waited, self.waiting, self._jumped_to = self.waiting, [], None
        onward = to is not None and self._ahead(self._last, to) > 0
        leading: list[tuple[Row, float | None]] = []
        for row, at in reversed(waited):
            if at is None or to is None or (self._ahead(at, to) >= 0 and onward == (self._ahead(self._last, at) > 0)):
                leading.append((row, at))
                to = to if at is None else at
            else:
                self._refuse(row)
        ahead = self._ahead
        believed = (self._believed(row, at, 0 if at is None else ahead(self._last, at)) for row, at in leading[::-1])
        return [item for items in believed for item in items]

    def _believed(self, row: Row, at: float | None, ahead: int) -> list[Row | InputEvent]:
        """A row with what is missing before it, or with what is to be told of it; the next one goes on from there."""
        if at is None:
            self._unlabeled += 1
            known = self._label is not None and self._unlabeled <= MOST_HELD
            if row.time is None or known or not self._tell or self.several:
                return [row]
            self._tell, label = False, shown(row.time, 40)
            words = f"the time '{label}' cannot be read, gaps are not noticed: give a --layout its time_format"
            return [InputEvent("time_unreadable", words, {"time": label}), row]
        if -self._window <= ahead <= 0 and self._since <= SET_BACK:
            if not self.several:
                self._refuse(row)
            return [row] * self.several
        if not self._by_time:
            if self._last is not None and at < self._last and ahead > 0:
                self._wrapped = self._wraps(at)
            self._largest = max(self._largest, int(at))
        elif self._steady < STEADY and self._last is not None:
            self._steady = self._steady + 1 if self._is_step(at - self._last) else 0
        missing = max(0, ahead - 1 - self._unlabeled) if ahead > 0 else None
        before, self._last, self._label = self._label, at, getattr(row, self._kind)
        self._since = self._unlabeled = 0
        if missing == 0 or self.several:
            return [row]
        if missing is not None and missing <= self._longest:
            return [*(Row(self._missing) for _ in range(missing)), row]
        reason = f"{self._kind} {shown(self._label, 40)} after {shown(before, 40)}"
        what = "the sender or its clock began again" if missing is None else f"{missing} samples are missing"
        words = f"{what} ({reason}); verdicts come again after the warm-up"
        return [InputEvent("input_gap", words, {"samples": missing, "reason": reason}, rewarm=True), row]

    def _refuse(self, row: Row) -> None:
        words = f"{self._kind} {shown(getattr(row, self._kind), 40)} after {shown(self._label, 40)}"
        self._tally.refuse(f"it has been before, or jumps alone: {words}")

    def _is_step(self, seconds: float) -> bool:
        """Whether it may be that between two rows."""
        return (0.0 if self.several else 0.5) <= seconds / self._period_s <= 1.5

    def _ahead(self, last: float | None, at: float) -> int:
        """How many samples after the last: 1 for the next, 0 for the same, below for older."""
        if last is None:
            return 1
        if not self._by_time:
            return self._ahead_in_count(int(last), int(at))
        if self._steady < STEADY:
            return 1
        periods = (at - last) / self._period_s
        return max(1, round(periods)) if periods > 0 else int(periods)

    def _ahead_in_count(self, last: int, at: int) -> int:
        """The same for a count, which may have wrapped round in between."""
        wraps = self._wraps(last, at)
        if at > last and self._wrapped != wraps:  # a young counter is not one of 8 bits until it has wrapped like one
            return at - last
        ahead = (at - last) % wraps
        return ahead - wraps if ahead > wraps // 2 else ahead

    def _wraps(self, *counts: float) -> int:
        return self._wraps_at or next(w for w in WRAPS if max(self._largest, *counts) < w)


class Pauses:
    """Leaves out rows of other states (`only`): few are missing values, more than a sensor is held are a gap."""

    def __init__(self, manifest: Manifest) -> None:
        self._hold = manifest.max_hold_samples
        self._missing = np.full(len(manifest.names), np.nan, np.float32)
        self._left_out = 0
        self._began = False

    def leave_out(self, items: list[Row | InputEvent]) -> list[Row | InputEvent]:
        """What is left."""
        left: list[Row | InputEvent] = []
        for item in items:
            if isinstance(item, Row):
                if item.off:
                    self._left_out += 1
                    continue
                if self._began and self._left_out > self._hold:
                    words = f"back after {self._left_out} samples in another state; verdicts come after the warm-up"
                    left.append(InputEvent("pause_over", words, {"samples": self._left_out}, rewarm=True))
                elif self._began:
                    left += [Row(self._missing) for _ in range(self._left_out)]
                self._began, self._left_out = True, 0
            left.append(item)
        return left
