"""The wall clock is a label: nothing waits by it, and where it is set, that is told."""

from __future__ import annotations

import time

from edgekd.runtime.state import boot_clock_s

LEAST_S = 5.0  # below, times in events are as good as before; a clock that is slewed never steps by as much


class WallClock:
    """Notices that the wall clock was set, by the one that never is: since boot, sleep included."""

    def __init__(self) -> None:
        self._ahead_s = time.time() - boot_clock_s()

    def jump_s(self) -> float:
        """By how much it was set since the last call, 0 where it was not."""
        ahead_s = time.time() - boot_clock_s()
        by_s, self._ahead_s = ahead_s - self._ahead_s, ahead_s
        return by_s if abs(by_s) >= LEAST_S else 0.0
