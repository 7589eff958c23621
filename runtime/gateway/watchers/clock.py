"""The wall clock is a label: nothing waits by it, and where it is set, that is told."""

from __future__ import annotations

import time

from edgekd.runtime.duration import duration
from edgekd.runtime.gateway.sinks.fan_out import FanOut
from edgekd.runtime.sinks import wall_time
from edgekd.runtime.state import boot_clock_s

LEAST_S = 5.0  # below, times in events are as good as before; a clock that is slewed never steps by as much


class WallClock:
    """Notices that the wall clock was set, by the one that never is: since boot, sleep included."""

    def __init__(self, fan_out: FanOut) -> None:
        self._fan_out = fan_out
        self._ahead_s = time.time() - boot_clock_s()

    def tick(self) -> None:
        """Tell by how much it was set since the last time."""
        ahead_s = time.time() - boot_clock_s()
        by_s, self._ahead_s = ahead_s - self._ahead_s, ahead_s
        if abs(by_s) >= LEAST_S:
            self._fan_out.emit({"event": "clock_jumped", "time": wall_time(), "by_s": round(by_s, 3)})
            way = "forward" if by_s > 0 else "back"
            self._fan_out.say(
                f"the clock was set {way} by {duration(abs(by_s))}; detection does not go by it, times told do"
            )
