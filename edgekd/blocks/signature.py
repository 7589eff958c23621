"""Signature matrices: windowed pairwise inner products of the sensors, and the geometry of their windows.

Source: MSCRED (arXiv 1811.08055, eq. 1), with exactly `l` samples in a window of length `l`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgekd.runtime.errors import RecordingError

MOST_SENSORS = 256
"""Of a detector that looks at every pair of them, whose size, state and training grow with their square. At 200 the
default trains for most of an hour on two cores; at 500 it would for five, for a state of 12 MB."""


def require_few_sensors(count: int, source: str) -> None:
    """Raise RecordingError where there are too many sensors for signature matrices."""
    if count > MOST_SENSORS:
        raise RecordingError(
            f"{source or 'recording'}: {count} sensors that move are too many for a detector that looks at every pair "
            f"of them, {MOST_SENSORS} are the most; distill with --preset innovations, or a part of the sensors"
        )


@dataclass(frozen=True)
class Geometry:
    """Which samples one scored window is made of, all in samples."""

    lengths: tuple[int, int, int]
    """Window lengths l1 < l2 < l3 of the three scales, shortest first."""
    gap: int
    """Distance between two successive steps of the sequence."""
    steps: int
    """Number of steps; the last one ends at the newest sample."""
    hop: int
    """Distance between two scored windows."""

    @property
    def span(self) -> int:
        """Samples from the oldest one that a window needs to the newest."""
        return self.lengths[-1] + (self.steps - 1) * self.gap

    @property
    def block(self) -> int:
        """Largest block that every window is a whole number of: sums over blocks never drift."""
        return math.gcd(self.gap, self.hop, *self.lengths)

    @classmethod
    def from_window(cls, window: int, hop: int) -> Geometry:
        """The published input length `w` as window lengths and gap (MSCRED's 10/30/60, gap 10, at w = 100)."""
        gap = max(1, window // 10)
        longest = window - 4 * gap
        return cls((max(2, longest // 6), longest // 2, longest), gap, 5, hop)

    @classmethod
    def from_period(cls, period_s: float, steps: int = 5) -> Geometry:
        """Window lengths in physical time: the longest covers one hour, within 20 to 60 samples.

        One-minute data get 10/30/60 samples, five-minute data 5/10/20; faster lines get 60 samples, since what
        an hour of vibration holds is not what a signature matrix shows. The hop is the shortest window.
        """
        longest = 10 * round(min(60.0, max(20.0, 3600.0 / period_s)) / 10)
        shortest = max(5, 5 * round(longest / 30))
        return cls((shortest, longest // 2, longest), shortest, steps, shortest)


class SignatureMatrices(nn.Module):
    """Samples of one span to the signature matrices of every step and scale.

    The sum over a window is the sum over its blocks of the blocks' own inner products, in one fixed order, in the
    batch path and on the device alike; nothing is ever subtracted, so nothing drifts.
    """

    weights: Tensor

    def __init__(self, geometry: Geometry) -> None:
        super().__init__()
        self.geometry = geometry
        block, span = geometry.block, geometry.span
        weights = torch.zeros(geometry.steps * 3, span // block)
        for step in range(geometry.steps):
            end = span - (geometry.steps - 1 - step) * geometry.gap
            for scale, length in enumerate(geometry.lengths):
                weights[step * 3 + scale, (end - length) // block : end // block] = 1.0 / length
        # derived from the geometry, so not part of a checkpoint
        self.register_buffer("weights", weights, persistent=False)  # (steps * 3, blocks)

    def forward(self, samples: Tensor) -> Tensor:
        """(..., span, n) scaled samples -> (..., steps, 3, n, n)."""
        *batch, _, n = samples.shape
        sums = self.weights @ self.products(samples)  # (..., steps * 3, n * n)
        return sums.reshape(*batch, self.geometry.steps, 3, n, n)

    def products(self, samples: Tensor) -> Tensor:
        """(..., T, n) scaled samples, whole blocks of them -> inner products of each block, (..., blocks, n * n)."""
        *batch, count, n = samples.shape
        blocks = count // self.geometry.block
        if blocks > 1:
            samples = samples.reshape(*batch, blocks, self.geometry.block, n)
        return (samples.transpose(-1, -2) @ samples).reshape(*batch, blocks, n * n)


class MatrixScaler(nn.Module):
    """Standardizes signature matrices with the statistics of the training windows.

    `mode` "element": each element by its own deviation; "global": one deviation for each scale; "none": as they are.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, n_sensors: int, mode: str) -> None:
        super().__init__()
        self.mode = mode
        if mode != "none":
            self.register_buffer("mean", torch.zeros(3, n_sensors, n_sensors))
            self.register_buffer("scale", torch.ones(3, n_sensors, n_sensors))

    def fit(self, mean: Tensor, std: Tensor) -> None:
        """Mean and deviation (3, n, n) of the training windows."""
        if self.mode == "none":
            return
        self.mean.copy_(mean)
        if self.mode == "global":
            std = std.pow(2).mean((1, 2), keepdim=True).sqrt().expand_as(std)
        # almost constant products would otherwise decide the score alone
        self.scale.copy_(std.clamp_min(1e-3))

    def forward(self, matrices: Tensor, center: Tensor | float = 0.0) -> Tensor:
        """(..., 3, n, n) -> standardized, less `center` (3, n, n), in one subtraction."""
        if self.mode == "none":
            return matrices - center
        return (matrices - (self.mean + center * self.scale)) * (1.0 / self.scale)
