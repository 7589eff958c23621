"""From raw samples to scaled ones: invalid sensors filled, training statistics applied, constant sensors dropped."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from edgekd.data.recording import Recording
from edgekd.data.request import shorten
from edgekd.runtime.errors import RecordingError, UsageError


class SampleScaler(nn.Module):
    """Raw samples (T, n) to scaled samples of the kept sensors (T, m), m <= n.

    Everything that is not a finite number, and every sensor that is not valid, becomes the sensor's training median,
    so that nothing non-finite can reach a state.
    """

    fill: Tensor
    offset: Tensor
    scale: Tensor
    kept: Tensor
    """int64 (m,): columns of the raw samples."""
    place: Tensor
    """(m, n): one-hot rows, from kept sensors back to all."""

    def __init__(self, n_sensors: int, n_kept: int, clip: tuple[float, float]) -> None:
        super().__init__()
        self.clip = clip
        self.keeps_all = n_kept == n_sensors
        self.register_buffer("fill", torch.zeros(n_sensors))
        self.register_buffer("offset", torch.zeros(n_kept))
        self.register_buffer("scale", torch.ones(n_kept))
        self.register_buffer("kept", torch.arange(n_kept))
        self.register_buffer("place", torch.eye(n_kept, n_sensors))

    @classmethod
    def fit(cls, values: np.ndarray, kept: np.ndarray, mode: str) -> SampleScaler:
        """`values` float32 (T, n) training samples; `kept` int (m,) columns; `mode` "minmax" or "zscore".

        Min-max is clipped to [-1, 2], z-scores to [-5, 5], so that one wild sample cannot swamp a window.
        """
        scaler = cls(values.shape[1], len(kept), (-1.0, 2.0) if mode == "minmax" else (-5.0, 5.0))
        scaler.fill.copy_(torch.from_numpy(np.median(values, axis=0).astype(np.float32)))
        scaler.kept.copy_(torch.from_numpy(kept))
        scaler.place.copy_(torch.eye(values.shape[1])[scaler.kept])
        columns = values[:, kept].astype(np.float64)
        if mode == "minmax":
            offset, scale = columns.min(0), np.ptp(columns, axis=0) + 1e-6
            scale[np.ptp(columns, axis=0) == 0] = 1.0
        else:
            offset, scale = columns.mean(0), columns.std(0)
            scale[scale < 1e-6 * np.maximum(1.0, np.abs(offset))] = 1.0
        scaler.offset.copy_(torch.from_numpy(offset))
        scaler.scale.copy_(torch.from_numpy(scale))
        return scaler

    def forward(self, samples: Tensor, valid: Tensor) -> Tensor:
        """samples (T, n) raw units, valid (n,) 1 or 0 -> (T, m)."""
        # one comparison that inf and NaN fail, and all of a sensor that is not valid, since 0 * inf is no number; and
        # one gather: exported, isfinite and [:, kept] are eight small nodes
        filled = self._of_kept(torch.where(samples.abs() < valid * math.inf, samples, self.fill))
        return ((filled - self.offset) / self.scale).clamp(*self.clip)

    def live(self, valid: Tensor) -> Tensor:
        """valid (n,) -> valid of the kept sensors (m,)."""
        return self._of_kept(valid)

    def _of_kept(self, columns: Tensor) -> Tensor:
        """(..., n) -> (..., m); columns are kept in order, so where all are there is nothing to choose."""
        return columns if self.keeps_all else columns.index_select(-1, self.kept)

    def spread(self, contributions: Tensor) -> Tensor:
        """Contributions of the kept sensors (..., m) -> of all sensors (..., n), zero for those left out."""
        return contributions if self.keeps_all else contributions @ self.place


def kept_columns(values: np.ndarray, drop_constant: bool, source: str, judged: Sequence[int] = ()) -> np.ndarray:
    """Columns (int64 indices) of training samples `values` (T, n) that a detector looks at.

    judged: columns that are kept although constant; that one moves may be what it is there to tell.
    Raises RecordingError where every sensor is constant and none is judged: there is nothing to learn.
    """
    kept = np.ptp(values, axis=0) > 0
    kept[list(judged)] = True
    if not kept.any():
        raise RecordingError(f"{source or 'recording'}: every sensor is constant in training; record a running plant")
    return np.flatnonzero(kept) if drop_constant else np.arange(values.shape[1])


def judged_columns(recording: Recording, names: Sequence[str] | None) -> list[int]:
    """Columns of the sensors that a configuration names as judged; raises UsageError where there is none of a name."""
    unknown = [name for name in names or () if name not in recording.sensors]
    if unknown:
        raise UsageError(
            f"setting judged: {recording.source or 'the recording'} has no sensor {unknown[0]!r}; it has "
            f"{shorten(recording.sensors)}"
        )
    return [recording.sensors.index(name) for name in names or ()]
