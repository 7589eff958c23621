"""Innovations in place of samples: what each sensor's own last values did not tell, as input of a signature detector.

A machine that drifts takes its levels with it, but not the errors of forecasting a sensor from its own near past: these
stay as they were in training, so that what cannot be forecast stands out.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

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

    def fit(self, stretches: Sequence[Tensor]) -> None:
        """`stretches`: scaled samples (T, m) of normal operation, one for each entity."""
        pasts, nexts = [], []
        for stretch in (stretch.double() for stretch in stretches if len(stretch) > LAGS):
            pasts.append(torch.stack([stretch[lag : len(stretch) - LAGS + lag] for lag in range(LAGS)], -1))
            nexts.append(stretch[LAGS:])
        past, newest = torch.cat(pasts).transpose(0, 1), torch.cat(nexts).T  # (m, N, LAGS), (m, N)
        mean = past.mean(1, keepdim=True)
        centered = past - mean
        # minimum norm: a sensor that hardly moves has no unique forecast
        weights = torch.linalg.pinv(centered) @ (newest - newest.mean(1, keepdim=True)).unsqueeze(-1)  # (m, LAGS, 1)
        intercept = newest.mean(1) - (mean @ weights).flatten()
        residual = newest - (past @ weights).squeeze(-1) - intercept[:, None]
        self.intercept.copy_(intercept)
        self.weights.copy_(weights.squeeze(-1).T)
        self.deviation.copy_(residual.square().mean(1).sqrt().clamp_min(FLOOR))

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
