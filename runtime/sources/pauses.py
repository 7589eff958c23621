"""States that a detector is not to see (`only`): scores pause, and it warms up again where too much is left out."""

from __future__ import annotations

import numpy as np

from edgekd.runtime.manifest import Manifest
from edgekd.runtime.sources import InputEvent, Row


class Pauses:
    """Leaves rows out; a stretch of them that is no longer than a missing sensor is held counts as missing values."""

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
