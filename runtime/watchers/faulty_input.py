"""What is wrong with the input: what of it was no sample, and samples that do not come at the model's rate."""

from __future__ import annotations

import time

import numpy as np

from edgekd.runtime.loop import Loop, Watcher
from edgekd.runtime.sources import Items, Row

EVERY_S = 10.0
INTERVALS = 32  # a median over this many is not moved by a stall or a hiccup
FACTOR = 1.5  # clocks drift by percents; a wrong unit or a forgotten decimation is a factor


class BadLines(Watcher):
    """Tells how many there were since the last time, and why the newest was none: noise must not fill the log."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._told = self._good = 0
        self._due = 0.0

    def tick(self) -> None:
        """Tell, if it is time to."""
        if time.monotonic() >= self._due:
            self.end()

    def end(self) -> None:
        """Tell what has not been told."""
        rows = self._loop.source.rows
        total, good, reason = rows.bad, rows.good, rows.last_bad
        count, self._told = total - self._told, total
        if count:
            check = rows.check if count > good - self._good else ""
            self._due, self._good = time.monotonic() + EVERY_S, good
            told = {"event": "bad_lines", "count": count, "total": total, "reason": reason}
            self._loop.emit({**told, "check": check} if check else told)
            advice = f"; if it stays so, {check}" if check else ""
            self._loop.say(f"{count} {rows.unit} hold no sample, or no number where one should be ({reason}){advice}")


class RateCheck(Watcher):
    """Compares the time between samples with the model's period, once: at another one, scores are silently wrong.

    Time labels count where the input has them; else, of a live one, the moments at which samples come.
    """

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._period_s = loop.detector.manifest.period_s
        self._labeled = False
        self._last: float | None = None
        self._intervals: list[float] = []
        self._done = False

    def arrived(self, items: Items) -> None:
        """Take the time of what has come."""
        rows = 0
        for item in () if self._done else items:
            if not isinstance(item, Row):
                self._last = None  # the input was interrupted: the next interval says nothing
            elif (seconds := item.seconds) is None:
                rows += 1
            else:
                self._last = self._last if self._labeled else None
                self._labeled = True
                self._observe(seconds)
        if rows and self._loop.source.live and not self._labeled:
            self._observe(time.monotonic(), rows)

    def _observe(self, seconds: float, samples: int = 1) -> None:
        """`samples` more samples have come up to this time; tell the observed period once it is known to be wrong."""
        if self._last is not None and seconds > self._last:
            self._intervals.append((seconds - self._last) / samples)
        self._last = seconds
        if self._done or len(self._intervals) < INTERVALS:
            return
        self._done = True
        observed_s = float(f"{np.median(self._intervals):.4g}")
        if 1 / FACTOR <= observed_s / self._period_s <= FACTOR:
            return
        self._loop.emit({"event": "rate_mismatch", "observed_s": observed_s, "period_s": self._period_s})
        self._loop.say(
            f"samples come every {observed_s:g} s, but the model was made for one every {self._period_s:g} s: its"
            " scores mean little at this rate; feed it at its own, --resample mean if it comes faster, or distill one"
            " for this"
        )
