"""`heartbeat`: counts at an interval, so that silence means that something is wrong."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from edgekd.runtime.gateway.sinks.fan_out import FanOut
from edgekd.runtime.loop import Loop


class Heartbeat:
    """Tells what the run has done so far. It comes from the driver of the loops: one that hangs falls silent."""

    def __init__(
        self, loops: Callable[[], Sequence[Loop]], fan_out: FanOut, every_s: float, notes: Callable[[], str] = str
    ) -> None:
        """notes: what else there is to know now."""
        self._loops = loops
        self._fan_out = fan_out
        self._notes = notes
        self._every_s = every_s
        self._due = time.monotonic() + every_s  # the first, after one interval

    def tick(self) -> None:
        """Tell it, if it is time to."""
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + self._every_s
            self._fan_out.beat(self.counts())

    def counts(self) -> dict[str, Any]:
        """Of this run; `waiting` and `delivered` of events, `left_out` of what was no sample."""
        loops, outbox, outlets = self._loops(), self._fan_out.outbox, self._fan_out.outlets
        counts: dict[str, Any] = {"streams": len(loops)} if self._fan_out.several else {}
        counts |= {name: sum(getattr(loop, name) for loop in loops) for name in ("samples", "verdicts", "anomalies")}
        counts |= {"left_out": sum(loop.source.rows.bad for loop in loops)}
        counts |= {"samples_dropped": sum(loop.source.dropped or 0 for loop in loops)}
        if outbox:
            counts |= {"delivered": {outlet.name: outlet.delivered for outlet in outlets}}
            counts |= {"waiting": outbox.depth}
            counts |= {"dropped": outbox.dropped + sum(outlet.dropped for outlet in outlets)}
        if notes := self._notes().removesuffix("; "):
            counts |= {"notes": notes}
        return counts
