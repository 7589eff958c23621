"""Terms about innovations: what the past does not tell of each sensor, and how it lies and how rough it is.

Machines drift between training and use and take their levels with them, but not the errors of forecasting them. Three
terms are forecast errors, the fourth is about levels. Every term maps a window of standardized samples to the mean of
whitened squares, its energy, and each sensor's share in it, see `edgekd.blocks.score_terms`.

Whitening is by the symmetric root of the shrunk correlation, so that the energy falls apart into sensors (Garthwaite &
Koch, Biometrika 103(4), 2016).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from edgekd.blocks.forecast import Stretch, gathered, own_forecasts
from edgekd.blocks.score_terms import sensor_shares

RECENT = 10  # newest samples whose residuals count
AHEAD = 5  # samples that `OwnAhead` looks ahead
SHORT, LONG = 10, 60  # samples of the means
SPAN = RECENT + AHEAD + LONG - 1  # samples that a window needs, for the oldest of the long means
FLOOR = 1e-4  # of a deviation, in standardized units


class Whitened(nn.Module):
    """Base of the terms: residuals of the judged sensors, whitened, to energy and shares."""

    judged: Tensor
    """int64 (j,): columns of the samples that the term is about."""
    whiten: Tensor
    """(j, j): divides by the training deviations and takes the correlation out."""
    shrinkage: float
    """rho of (C + rho I)^(-1/2)."""

    def __init__(self, judged: Tensor) -> None:
        super().__init__()
        self.register_buffer("judged", judged)
        self.register_buffer("whiten", torch.eye(len(judged)))

    def fit_whitening(self, residuals: Tensor) -> None:
        """`residuals` float64 (N, j) of normal data."""
        deviation = residuals.square().mean(0).sqrt().clamp_min(FLOOR)
        standardized = residuals / deviation
        root = shrunk_root(standardized.T @ standardized / len(residuals), self.shrinkage)
        self.whiten.copy_(root / deviation[:, None])

    def energy(self, residuals: Tensor, live: Tensor) -> tuple[Tensor, Tensor]:
        """residuals (..., k, j), live (m,) -> energy (...,), shares (..., j)."""
        live = live.index_select(0, self.judged)
        return sensor_shares(((residuals * live) @ self.whiten).square(), live)


class OwnLags(Whitened):
    """Residual of each sensor from its own last three values (least squares, with intercept)."""

    lags, shrinkage = 3, 0.5
    weights: Tensor
    """(lags, j), oldest first."""
    intercept: Tensor

    def __init__(self, judged: Tensor) -> None:
        super().__init__(judged)
        self.register_buffer("weights", torch.zeros(self.lags, len(judged)))
        self.register_buffer("intercept", torch.zeros(len(judged)))

    def features(self, own: Tensor, count: int) -> list[Tensor]:
        """Samples of the judged sensors (..., T, j) -> what each of the newest `count` is forecast from, (..., count,
        j) each, oldest first."""
        end = own.shape[-2]
        return [own[..., end - count - back : end - back, :] for back in range(self.lags, 0, -1)]

    @property
    def back(self) -> int:
        """Samples before one that its forecast needs."""
        return self.lags

    def residuals(self, own: Tensor, count: int) -> Tensor:
        """Samples of the judged sensors (..., T, j) -> (..., count, j) of the newest ones."""
        forecast = self.intercept
        for feature, weight in zip(self.features(own, count), self.weights):
            forecast = forecast + feature * weight
        return own[..., own.shape[-2] - count :, :] - forecast

    def fit(self, stretches: Sequence[Stretch]) -> None:
        """Learn weights and whitening of the samples that may be learned from."""
        x, y = gathered(
            stretches,
            self.back,
            lambda samples: torch.stack(self.features(samples[:, self.judged], len(samples) - self.back), -1),
            lambda samples: samples[:, self.judged],
        )  # (N, j, lags), (N, j)
        weights, intercept, residuals = own_forecasts(x, y)
        self.weights.copy_(weights.T)
        self.intercept.copy_(intercept)
        self.fit_whitening(residuals)

    def forward(self, window: Tensor, live: Tensor) -> tuple[Tensor, Tensor]:
        """window (..., SPAN, m) standardized, live (m,) -> energy (...,), shares (..., j)."""
        return self.energy(self.residuals(chosen(window, self.judged), RECENT), live)


class OwnAhead(OwnLags):
    """Residual of each sensor from its own value five samples before, and from its means until then."""

    @property
    def back(self) -> int:
        return AHEAD + LONG - 1

    def features(self, own: Tensor, count: int) -> list[Tensor]:
        past = own[..., own.shape[-2] - count - self.back : own.shape[-2] - AHEAD, :]
        newest, short, long = past, *running_means(past)
        return [long[..., -count:, :], short[..., -count:, :], newest[..., -count:, :]]


class AllLags(Whitened):
    """Residual of each judged sensor from the last three samples of all, and from the context of the same moment.

    Ridge regression; what is not judged (commands, set points) is context.
    """

    lags, ridge, shrinkage = 3, 0.01, 0.01
    weights: Tensor
    """((lags) m + context, j)."""
    intercept: Tensor
    context: Tensor
    """int64 (c,): columns that are not judged."""

    def __init__(self, judged: Tensor, m: int) -> None:
        super().__init__(judged)
        context = torch.tensor([column for column in range(m) if column not in judged.tolist()], dtype=torch.int64)
        self.register_buffer("context", context)
        self.register_buffer("weights", torch.zeros(self.lags * m + len(context), len(judged)))
        self.register_buffer("intercept", torch.zeros(len(judged)))

    def features(self, samples: Tensor, count: int) -> Tensor:
        """Samples (..., T, m) -> what the newest `count` are forecast from, (..., count, 3 m + c)."""
        end = samples.shape[-2]
        parts = [samples[..., end - count - back : end - back, :] for back in range(1, self.lags + 1)]
        if len(self.context):
            parts.append(samples[..., end - count :, :].index_select(-1, self.context))
        return torch.cat(parts, -1)

    def fit(self, stretches: Sequence[Stretch]) -> None:
        """Learn weights and whitening of the samples that may be learned from."""
        x, y = gathered(
            stretches,
            self.lags,
            lambda samples: self.features(samples, len(samples) - self.lags),
            lambda samples: samples[:, self.judged],
        )
        center, level = x.mean(0), y.mean(0)
        x, y = x - center, y - level
        penalty = self.ridge * len(x) * torch.eye(x.shape[1], dtype=x.dtype)
        weights = torch.linalg.solve(x.T @ x + penalty, x.T @ y)
        self.weights.copy_(weights)
        self.intercept.copy_(level - center @ weights)
        self.fit_whitening(y - x @ weights)

    def forward(self, window: Tensor, live: Tensor) -> tuple[Tensor, Tensor]:
        """window (..., SPAN, m) standardized, live (m,) -> energy (...,), shares (..., j)."""
        seen = window[..., window.shape[-2] - RECENT - self.lags :, :] * live
        forecast = self.features(seen, RECENT) @ self.weights + self.intercept
        return self.energy(chosen(seen[..., self.lags :, :], self.judged) - forecast, live)


class Levels(nn.Module):
    """Where each sensor lies and how rough it is: two means, two log mean squared steps, one log variance.

    Whitened within the sensor alone; of the newest moment alone.
    """

    shrinkage, floor = 0.05, 1e-3
    judged: Tensor
    center: Tensor
    """(j, 5)."""
    whiten: Tensor
    """(j, 5, 5)."""

    def __init__(self, judged: Tensor) -> None:
        super().__init__()
        self.register_buffer("judged", judged)
        self.register_buffer("center", torch.zeros(len(judged), 5))
        self.register_buffer("whiten", torch.eye(5).repeat(len(judged), 1, 1))

    def features(self, own: Tensor) -> Tensor:
        """Samples of the judged sensors (..., T, j), LONG + 1 or more -> features at the newest, (..., j, 5)."""
        steps = (own[..., 1:, :] - own[..., :-1, :]).square()
        newest = own[..., -2 * SHORT :, :]
        spread = (newest - newest.mean(-2, keepdim=True)).square().mean(-2)
        return torch.stack(
            [
                own[..., -SHORT:, :].mean(-2),
                own[..., -LONG:, :].mean(-2),
                (steps[..., -SHORT:, :].mean(-2) + self.floor).log(),
                (steps[..., -LONG:, :].mean(-2) + self.floor).log(),
                (spread + self.floor).log(),
            ],
            -1,
        )

    def fit(self, stretches: Sequence[Stretch]) -> None:
        """Learn centers and whitening of the samples that may be learned from."""
        found = []
        for stretch in stretches:
            rows, own = stretch.rows(LONG), stretch.samples[:, self.judged]
            for some in rows.split(1024):
                found.append(self.features(own[some[:, None] + torch.arange(-LONG, 1)]))
        features = torch.cat(found)  # (N, j, 5)
        center = features.mean(0)
        deviation = features.std(0, correction=0).clamp_min(FLOOR)
        standardized = (features - center) / deviation
        root = shrunk_root(torch.einsum("njf,njg->jfg", standardized, standardized) / len(features), self.shrinkage)
        self.center.copy_(center)
        self.whiten.copy_(root / deviation.unsqueeze(-1))

    def forward(self, window: Tensor, live: Tensor) -> tuple[Tensor, Tensor]:
        """window (..., SPAN, m) standardized, live (m,) -> energy (...,), shares (..., j)."""
        features = self.features(chosen(window, self.judged)) - self.center  # (..., j, 5)
        whitened = (features.unsqueeze(-1) * self.whiten).sum(-2)  # (..., j, 5)
        live = live.index_select(0, self.judged)
        return sensor_shares(whitened.square().transpose(-1, -2), live)


def chosen(samples: Tensor, columns: Tensor) -> Tensor:
    """(..., m) -> (..., j); columns are in order, so where all are there is nothing to choose."""
    return samples if len(columns) == samples.shape[-1] else samples.index_select(-1, columns)


def running_means(samples: Tensor) -> tuple[Tensor, Tensor]:
    """Samples (..., T, j) -> means of the SHORT and of the LONG newest at each moment that has them.

    Sums of sums, by doubling: a step graph of a few additions.
    """

    def joined(sums: Tensor, further: Tensor, by: int) -> Tensor:
        """Sums that end at each moment, and those that end `by` earlier, of the moments that have both."""
        count = min(sums.shape[-2], further.shape[-2] - by)
        end = further.shape[-2] - by
        return sums[..., sums.shape[-2] - count :, :] + further[..., end - count : end, :]

    two = joined(samples, samples, 1)
    four = joined(two, two, 2)
    eight = joined(four, four, 4)
    short = joined(two, eight, 2)  # 2 + 8 = SHORT
    twenty = joined(short, short, SHORT)
    forty = joined(twenty, twenty, 2 * SHORT)
    return short / SHORT, joined(twenty, forty, 2 * SHORT) / LONG  # 20 + 40 = LONG


def shrunk_root(correlation: Tensor, shrinkage: float) -> Tensor:
    """(C + rho I)^(-1/2), symmetric, of float64 (..., k, k)."""
    values, vectors = torch.linalg.eigh(correlation + shrinkage * torch.eye(correlation.shape[-1], dtype=torch.float64))
    return (vectors / values.sqrt().unsqueeze(-2)) @ vectors.transpose(-1, -2)
