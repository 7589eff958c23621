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
STEADY = 32  # intervals of about the period, one after the other, before time labels are believed
WRAPS = (2**8, 2**16, 2**32, 2**64)


class Gaps:
    """Puts the rows of one input in order, by their count or by their time; counts the rows that it drops.

    By the source's count of samples, where the layout names one, else by time labels, once they have come steadily at
    the model's period. Where the layout names the column of the time, one that cannot be read is told, once.
    """

    def __init__(self, manifest: Manifest, layout: Layout, tally: Tally) -> None:
        self._tally = tally
        self._by_time = not layout.sequence
        self._period_s = manifest.period_s
        self._window = self._longest = window_samples(manifest)
        self._hold = manifest.max_hold_samples
        self._missing = np.full(len(manifest.sensors), np.nan, np.float32)
        self._wraps_at = self._wrapped = layout.sequence_wraps_at  # 0: as the numbers tell
        self._largest = 0
        self._steady = 0
        self._tell = self._by_time and bool(layout.time)
        self._old_in_a_row = 0
        self._last: float | None = None  # count or seconds of the newest row
        self._last_label: object = None

    def judge(self, rows: Iterable[Row]) -> None:
        """Believe the labels of a file from its first row on, where these rows of it come at the model's period.

        As in training, what is missing for longer than it may be held is then not filled.
        """
        steps = np.diff([row.seconds for row in rows if row.seconds is not None])
        if len(steps) and 0.5 <= np.median(steps) / self._period_s <= 1.5:
            self._steady, self._longest = STEADY, min(self._hold, self._window)

    def restart(self) -> None:
        """What comes next is not to be compared with what came before."""
        self._last = None

    def arrange(self, rows: Iterable[Row | InputEvent]) -> list[Row | InputEvent]:
        """The rows without those that had been before, with what is missing between them."""
        return [item for row in rows for item in (self._arranged(row) if isinstance(row, Row) else [row])]

    def _arranged(self, row: Row) -> list[Row | InputEvent]:
        label, at = (row.time, row.seconds) if self._by_time else (row.sequence, row.sequence)
        if at is None:
            return [row] if label is None or not self._tell else [self._unreadable(label), row]
        ahead = self._ahead(at)
        reason = f"{'time' if self._by_time else 'sequence'} {shown(label, 40)} after {shown(self._last_label, 40)}"
        if ahead <= 0:
            self._old_in_a_row += 1
            if -ahead <= self._window and self._old_in_a_row <= SET_BACK:
                self._tally.refuse(f"it has been before: {reason}")
                return []
        self._last, self._last_label, self._old_in_a_row = at, label, 0
        missing = ahead - 1 if ahead > 0 else None
        if missing is not None and missing <= self._longest:
            return [*(Row(self._missing) for _ in range(missing)), row]
        what = "the sender or its clock began again" if missing is None else f"{missing} samples are missing"
        words = f"{what} ({reason}); verdicts come again after the warm-up"
        return [InputEvent("input_gap", words, {"samples": missing, "reason": reason}, rewarm=True), row]

    def _unreadable(self, label: object) -> InputEvent:
        self._tell = False
        words = f"the time '{shown(label, 40)}' cannot be read, gaps are not noticed: give a --layout its time_format"
        return InputEvent("time_unreadable", words, {"time": shown(label, 40)})

    def _ahead(self, at: float) -> int:
        """How many samples after the last: 1 for the next, 0 for the same, below for older."""
        if self._last is None:
            return 1
        if not self._by_time:
            return self._ahead_in_count(int(self._last), int(at))
        periods = (at - self._last) / self._period_s
        if self._steady < STEADY:
            self._steady = self._steady + 1 if 0.5 <= periods <= 1.5 else 0
            return 1
        return max(1, round(periods)) if periods > 0 else int(periods)

    def _ahead_in_count(self, last: int, at: int) -> int:
        """The same for a count, which may have wrapped round in between."""
        self._largest = max(self._largest, at)
        wraps = self._wraps_at or next(w for w in WRAPS if self._largest < w)
        if at > last and self._wrapped != wraps:  # a young counter is not one of 8 bits until it has wrapped like one
            return at - last
        ahead = (at - last) % wraps
        if ahead > wraps // 2:
            return ahead - wraps
        if at < last:
            self._wrapped = wraps
        return ahead


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
