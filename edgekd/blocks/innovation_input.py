"""Innovations in place of samples: what each sensor's own last values did not tell, as input of a signature detector.

A machine that drifts takes its levels with it, but not the errors of forecasting a sensor from its own near past: these
stay as they were in training, so that what cannot be forecast stands out.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from edgekd.blocks.forecast import Stretch, gathered, own_forecasts

LAGS = 3
CLIP = 8.0  # training deviations: one wild sample must not swamp a window
FLOOR = 1e-4  # of a deviation, in scaled units


class InnovationInput(nn.Module):
    """Scaled samples -> standardized innovations: residual of the least-squares AR(3) of each sensor by itself.

    State: `lags` the newest samples that the next hop is forecast from, and `heard` how many samples in a row each
    sensor has been live for. Until it is `LAGS`, at the cold start and where a sensor comes back, its innovations are
    zero: the forecast would be from values that were never measured.
    """

    intercept: Tensor
    """(m,)"""
    weights: Tensor
    """(LAGS, m), oldest sample first."""
    deviation: Tensor
    """(m,) of the residual in training."""

    def __init__(self, m: int) -> None:
        super().__init__()
        self.register_buffer("intercept", torch.zeros(m))
        self.register_buffer("weights", torch.zeros(LAGS, m))
        self.register_buffer("deviation", torch.ones(m))

    @property
    def m(self) -> int:
        return len(self.intercept)

    def state_shapes(self) -> dict[str, tuple[int, ...]]:
        return {"lags": (LAGS, self.m), "heard": (self.m,)}

    def fit(self, stretches: Sequence[Stretch]) -> None:
        """`stretches`: scaled samples of normal operation, one for each entity."""
        x, y = gathered(
            stretches,
            LAGS,
            lambda samples: samples.unfold(0, LAGS, 1)[:-1],  # (T - LAGS, m, LAGS)
            lambda samples: samples,
        )
        weights, intercept, residuals = own_forecasts(x, y)
        self.intercept.copy_(intercept)
        self.weights.copy_(weights.T)
        self.deviation.copy_(residuals.square().mean(0).sqrt().clamp_min(FLOOR))

    def innovations(self, samples: Tensor) -> Tensor:
        """Scaled samples (LAGS + T, m) -> standardized, clipped innovations of all but the first `LAGS`, (T, m)."""
        count = len(samples) - LAGS
        forecast = self.intercept
        for lag in range(LAGS):
            forecast = forecast + samples[lag : lag + count] * self.weights[lag]
        return ((samples[LAGS:] - forecast) / self.deviation).clamp(-CLIP, CLIP)

    def forward(self, samples: Tensor, live: Tensor, lags: Tensor, heard: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One hop: scaled samples (hop, m), live (m,) 1 or 0, state -> innovations (hop, m), next state."""
        past = torch.cat([lags, samples])
        shown = self.innovations(past) * (live * (heard >= LAGS).to(samples.dtype))
        return shown, past[len(samples) :], ((heard + float(len(samples))) * live).clamp_max(float(LAGS))

    def whole(self, samples: Tensor, hop: int) -> Tensor:
        """Scaled samples (T, m) of one entity from its cold start -> innovations (T, m), as hops would give them."""
        shown = self.innovations(torch.cat([torch.zeros(LAGS, self.m, dtype=samples.dtype), samples]))
        unheard = -(-LAGS // hop) * hop
        return torch.cat([torch.zeros_like(shown[:unheard]), shown[unheard:]])
