"""What of the input was no sample, told now and then: a line that is all noise must not fill the log."""

from __future__ import annotations

import time

from edgekd.runtime.loop import Emit, Say, Watcher
from edgekd.runtime.sources import Tally

EVERY_S = 10.0


class BadLines(Watcher):
    """Tells how many there were since the last time, and why the newest was none."""

    def __init__(self, rows: Tally, emit: Emit, say: Say) -> None:
        self._rows = rows
        self._emit = emit
        self._say = say
        self._told = 0
        self._due = 0.0

    def tick(self) -> None:
        """Tell, if it is time to."""
        if time.monotonic() >= self._due:
            self.end()

    def end(self) -> None:
        """Tell what has not been told."""
        total, reason = self._rows.bad, self._rows.last_bad
        count, self._told = total - self._told, total
        if count:
            self._due = time.monotonic() + EVERY_S
            self._emit({"event": "bad_lines", "count": count, "total": total, "reason": reason})
            self._say(f"skipped {count} {self._rows.unit} that are no samples ({reason})")
