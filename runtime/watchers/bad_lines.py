"""What of the input was no sample, told now and then: a line that is all noise must not fill the log."""

from __future__ import annotations

import time

from edgekd.runtime.loop import Loop, Watcher

EVERY_S = 10.0


class BadLines(Watcher):
    """Tells how many there were since the last time, and why the newest was none."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._told = 0
        self._due = 0.0

    def tick(self) -> None:
        """Tell, if it is time to."""
        if time.monotonic() >= self._due:
            self.end()

    def end(self) -> None:
        """Tell what has not been told."""
        rows = self._loop.source.rows
        total, reason = rows.bad, rows.last_bad
        count, self._told = total - self._told, total
        if count:
            self._due = time.monotonic() + EVERY_S
            self._loop.emit({"event": "bad_lines", "count": count, "total": total, "reason": reason})
            self._loop.say(f"{count} {rows.unit} hold no sample, or no number where one should be ({reason})")
