"""How long to wait before something is tried again."""

from __future__ import annotations

import random


class Backoff:
    """Twice as long every time, from `first_s` to `longest_s`; jittered: many gateways lose one broker at once."""

    def __init__(self, first_s: float, longest_s: float) -> None:
        self._first_s = self._next_s = first_s
        self._longest_s = longest_s

    def reset(self) -> None:
        """It worked: the next wait is short again."""
        self._next_s = self._first_s

    def wait_s(self, longest_s: float | None = None) -> float:
        """Seconds to wait now; longest_s: another bound for this once."""
        longest_s = longest_s or self._longest_s
        wait_s = min(self._next_s * random.uniform(0.75, 1.25), longest_s)
        self._next_s = min(2 * self._next_s, longest_s)
        return wait_s
