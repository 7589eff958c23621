"""Rows that carry a count or a time: duplicates and stragglers are dropped, gaps found.

A short gap is filled with missing samples, so that the detector's windows keep their length. After one longer than its
window it warms up again but keeps what it has learned of slow drift (`Detector.rewarm`, not `reset`).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from edgekd.runtime.json_fields import shown
from edgekd.runtime.layout import Layout
from edgekd.runtime.manifest import Manifest
from edgekd.runtime.sources import InputEvent, Row, Tally, window_samples

SET_BACK = 32  # old rows one after the other: no stragglers, the sender or its clock began again
NEXT = 2  # samples after a jump at which a row goes on from it: one may be lost
MOST_HELD = 4  # rows whose labels jump one after the other, each from the one before: perhaps they come so
STEADY = 32  # intervals of about the period, one after the other, before time labels are believed
WRAPS = (2**8, 2**16, 2**32, 2**64)


class Gaps:
    """Puts the rows of one input in order, by their count or by their time; counts the rows that it drops.

    By the source's count of samples, where the layout names one, else by time labels, once they have come steadily at
    the model's period. A label that jumps waits for the row after it: if that goes on from before the jump, the label
    was damaged and costs its row. Where the layout names the column of the time, one that cannot be read is told, once.
    """

    several = False
    """Whether a sample is made of several rows, whose labels may repeat."""

    def __init__(self, manifest: Manifest, layout: Layout, tally: Tally) -> None:
        self._tally = tally
        self._by_time = bool(layout.resample) or not layout.sequence
        self._period_s = manifest.period_s
        self._window = self._longest = window_samples(manifest)
        self._hold = manifest.max_hold_samples
        self._missing = np.full(len(manifest.sensors), np.nan, np.float32)
        self._wraps_at = self._wrapped = layout.sequence_wraps_at  # 0: as the numbers tell
        self._largest = 0
        self._steady = 0
        self._tell = self._by_time and bool(layout.time)
        self._last: float | None = None  # count or seconds of the newest row that was believed
        self._since = 0  # rows after it
        self.held: list[Row] = []
        """Those from a jump on, which wait for the next."""
        self._jumped_to: float | None = None  # by the newest of them that is not just old
        self._label: object = None  # of the last
        self._last_label: object = None  # of those arranged
        self._unlabeled = 0  # rows arranged since

    def judge(self, rows: Iterable[Row]) -> None:
        """Believe the labels of a file from its first row on, where these rows of it come at the model's period.

        As in training, what is missing for longer than it may be held is then not filled.
        """
        steps = np.diff([row.seconds for row in rows if row.seconds is not None])
        if len(steps) and self._is_step(float(np.median(steps))):
            self._steady, self._longest = STEADY, min(self._hold, self._window)

    def restart(self) -> None:
        """What comes next is not to be compared with what came before."""
        self._damaged(in_place=False)
        self._last = None

    def settle(self, rows: Iterable[Row], ended: bool = False) -> list[Row]:
        """The rows of which it is known how far they are `ahead`, in order. ended: no more will come."""
        settled: list[Row] = []
        for row in rows:
            at = row.seconds if self._by_time else row.sequence
            self._since += 1
            if at is None:
                (self.held or settled).append(row)
                continue
            ahead = self._ahead(self._last, at)
            old = -self._window <= ahead <= 0
            if 0 < ahead <= self._since or (old and self.several):
                if self.held:
                    settled += self._damaged(in_place=self.several or ahead == self._since)
                self._believe(row, at, ahead)
                settled.append(row)
                continue
            self.held.append(row)
            if not old or len(self.held) > SET_BACK:
                before, self._jumped_to = self._jumped_to, at
                goes_on = before is not None and 0 < self._ahead(before, at) <= NEXT
                if goes_on or old or len(self.held) > MOST_HELD:
                    settled += self._jumped()
        return settled + self._jumped() if ended else settled

    def arrange(self, rows: Iterable[Row | InputEvent]) -> list[Row | InputEvent]:
        """Settled rows with what is missing between them."""
        return [item for row in rows for item in (self._arranged(row) if isinstance(row, Row) else [row])]

    def _damaged(self, in_place: bool) -> list[Row]:
        """The rows that were held, bare of their labels, where there is a place for each; else none."""
        held, self.held, self._jumped_to = self.held, [], None
        for row in held:
            self._refuse(row, "it jumps and the next row does not" if in_place else "it jumps, or has been before")
            if self._by_time:
                row.time = row.seconds = None
        return held if in_place else []

    def _jumped(self) -> list[Row]:
        """Those of the rows that were held that lead to the newest jump."""
        to, held = self._jumped_to, self.held
        if to is None:
            return self._damaged(in_place=False)
        self.held, self._jumped_to, kept = [], None, list[Row]()
        onward, least = self._ahead(self._last, to) > 0, 0
        for row in reversed(held):
            at = row.seconds if self._by_time else row.sequence
            if at is None or (self._ahead(at, to) >= least and onward == (self._ahead(self._last, at) > 0)):
                kept.append(row)
                to, least = (to, least) if at is None else (at, int(not self.several))
            else:
                self._refuse(row, "it jumps, or has been before")
        for row in reversed(kept):
            at = row.seconds if self._by_time else row.sequence
            if at is not None:
                self._believe(row, at, self._ahead(self._last, at))
        return kept[::-1]

    def _refuse(self, row: Row, why: str) -> None:
        label = f"time {shown(row.time, 40)}" if self._by_time else f"sequence {row.sequence}"
        self._tally.refuse(f"{why}: {label} after {shown(self._label, 40)}")

    def _believe(self, row: Row, at: float, ahead: int) -> None:
        """Go on from this row."""
        if ahead <= 0 and self.several and -self._window <= ahead and self._since <= SET_BACK:
            return
        row.ahead = ahead or -1
        if not self._by_time:
            wraps = self._wraps(at)
            if self._last is not None and 0 < ahead and at < self._last:
                self._wrapped = wraps
            self._largest = max(self._largest, int(at))
        elif self._steady < STEADY and self._last is not None:
            self._steady = self._steady + 1 if self._is_step(at - self._last) else 0
        self._last, self._since, self._label = at, 0, row.time if self._by_time else row.sequence

    def _arranged(self, row: Row) -> list[Row | InputEvent]:
        label, ahead = row.time if self._by_time else row.sequence, row.ahead
        if ahead is None:
            self._unlabeled += 1
            known = self._last_label is not None and self._unlabeled <= MOST_HELD
            return [row] if label is None or known or not self._tell else [self._unreadable(label), row]
        missing = max(0, ahead - 1 - self._unlabeled) if ahead > 0 else None
        before, self._last_label, self._unlabeled = self._last_label, label, 0
        if missing is not None and missing <= self._longest:
            return [*(Row(self._missing) for _ in range(missing)), row] if missing else [row]
        reason = f"{'time' if self._by_time else 'sequence'} {shown(label, 40)} after {shown(before, 40)}"
        what = "the sender or its clock began again" if missing is None else f"{missing} samples are missing"
        words = f"{what} ({reason}); verdicts come again after the warm-up"
        return [InputEvent("input_gap", words, {"samples": missing, "reason": reason}, rewarm=True), row]

    def _unreadable(self, label: object) -> InputEvent:
        self._tell = False
        words = f"the time '{shown(label, 40)}' cannot be read, gaps are not noticed: give a --layout its time_format"
        return InputEvent("time_unreadable", words, {"time": shown(label, 40)})

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

    def _wraps(self, *counts: float) -> int:
        """Where the count wraps round."""
        return self._wraps_at or next(w for w in WRAPS if max(self._largest, *counts) < w)

    def _ahead_in_count(self, last: int, at: int) -> int:
        """The same for a count, which may have wrapped round in between."""
        wraps = self._wraps(last, at)
        if at > last and self._wrapped != wraps:  # a young counter is not one of 8 bits until it has wrapped like one
            return at - last
        ahead = (at - last) % wraps
        return ahead - wraps if ahead > wraps // 2 else ahead


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
