"""Damaged copies of training windows: two of each, for both networks to see as anomalies.

Each kind changes the shape of a window. A gain or an offset of all of it would not do: the student normalizes windows,
cannot see it, and would be told that the same input is normal and is not.
"""

from __future__ import annotations

import numpy as np

from edgekd.blocks.synthetic_faults import at_another_speed, burst, flat, sensors_hit, shifted, spiked, struck, swapped
from edgekd.methods.anomalyllm.config import AnomalyLLMConfig

COPIES = 2
LOCAL = (spiked, shifted, at_another_speed, swapped, flat, burst)
KINDS = 2 + len(LOCAL)
SHARE = (0.1, 0.5)  # of a window that local damage covers
SMALLEST = 1e-3  # deviation of scaled samples
UNCHANGED = 0.25  # deviations: what changes a window by less (a flat stretch made flat) is no damage


class SyntheticAnomalies:
    """Makes damaged copies by the settings of a detector.

    deviation: (m,) of the scaled training samples; clip: what the detector's scaling keeps samples within.
    """

    def __init__(self, config: AnomalyLLMConfig, deviation: np.ndarray, clip: tuple[float, float]) -> None:
        self.config, self.deviation, self.clip = config, np.maximum(deviation, SMALLEST), clip
        # a sensor that stands still all the time is damaged only where all do
        self.varying = np.flatnonzero(deviation > 0) if deviation.any() else np.arange(len(deviation))

    def __call__(self, windows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """windows (B, L, m) scaled -> (2, B, L, m) float32."""
        if self.config.anomalies == "reference":
            copies = np.stack([self._scaled(windows, rng), self._jittered(windows, rng)])
        else:
            copies = np.stack([windows] * COPIES).astype(np.float64)
            for window in copies.reshape(-1, *windows.shape[1:]):
                hit = rng.choice(self.varying, sensors_hit(len(self.varying), rng), replace=False)
                window[:, hit] = self._damaged(window[:, hit], self.deviation[hit], rng)
        return copies.clip(*self.clip).astype(np.float32)

    def _damaged(self, window: np.ndarray, deviation: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """One window (L, s) with one kind of damage."""
        kind = int(rng.integers(KINDS))
        damaged = window.copy()
        if kind == 0:
            damaged = self._scaled(window, rng)
        elif kind > 1:
            length = len(window)
            size = max(4, int(length * rng.uniform(*SHARE)))
            at = int(rng.integers(0, length - size + 1))
            stretch = slice(at, at + size)
            damaged[stretch] = struck(window[stretch], window, deviation, LOCAL[kind - 2], rng)
        if np.abs(damaged - window).max() < UNCHANGED * deviation.max():
            damaged = self._jittered(window, rng)
        return damaged

    def _scaled(self, windows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A factor of its own for each point in time: multiplicative noise around 2, not a gain."""
        return windows * rng.normal(2.0, self.config.scale_spread, (*windows.shape[:-1], 1))

    def _jittered(self, windows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return windows + rng.normal(0.0, self.config.jitter_spread, windows.shape) * self.deviation.mean()
