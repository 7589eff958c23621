"""`heartbeat`: counts at an interval, so that silence means that something is wrong."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from edgekd.runtime.gateway.sinks.fan_out import FanOut
from edgekd.runtime.loop import Loop, Watcher


class Heartbeat(Watcher):
    """Tells what the run has done so far. It comes from the loop: one that hangs falls silent."""

    def __init__(self, loop: Loop, fan_out: FanOut, every_s: float, notes: Callable[[], str] = str) -> None:
        """notes: what else there is to know now."""
        self._loop = loop
        self._fan_out = fan_out
        self._notes = notes
        self._every_s = every_s
        self._due = math.inf

    def begin(self) -> None:
        """The first is due after one interval."""
        self._due = time.monotonic() + self._every_s

    def tick(self) -> None:
        """Tell it, if it is time to."""
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + self._every_s
            self._fan_out.beat(self.counts())

    def counts(self) -> dict[str, Any]:
        """Of this run; `waiting` and `delivered` of events, `left_out` of what was no sample."""
        loop, outbox, outlets = self._loop, self._fan_out.outbox, self._fan_out.outlets
        counts: dict[str, Any] = {"samples": loop.samples, "verdicts": loop.verdicts, "anomalies": loop.anomalies}
        counts |= {"left_out": loop.source.rows.bad, "samples_dropped": loop.source.dropped or 0}
        if outbox:
            counts |= {"delivered": {outlet.name: outlet.delivered for outlet in outlets}}
            counts |= {"waiting": outbox.depth}
            counts |= {"dropped": outbox.dropped + sum(outlet.dropped for outlet in outlets)}
        if notes := self._notes().removesuffix("; "):
            counts |= {"notes": notes}
        return counts
