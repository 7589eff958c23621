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
from edgekd.blocks.score_terms import live_weights

RECENT = 10  # newest samples whose residuals count
AHEAD = 5  # samples that `OwnAhead` looks ahead
SHORT, LONG = 10, 60  # samples of the means
SPAN = RECENT + AHEAD + LONG - 1  # samples that a window needs, for the oldest of the long means
FLOOR = 1e-4  # of a deviation, in standardized units


class Forecast(nn.Module):
    """Base of three terms: forecasts of the judged sensors, whose errors are whitened."""

    judged: Tensor
    """int64 (j,): columns of the samples that the term is about."""
    weights: Tensor
    """(features, j)."""
    intercept: Tensor
    """(j,)"""
    whiten: Tensor
    """(j, j): divides by the training deviations and takes the correlation out."""
    shrinkage: float
    """rho of (C + rho I)^(-1/2)."""
    back: int
    """Samples before one that its forecast needs."""

    def __init__(self, judged: Tensor, features: int) -> None:
        super().__init__()
        self.register_buffer("judged", judged)
        self.register_buffer("weights", torch.zeros(features, len(judged)))
        self.register_buffer("intercept", torch.zeros(len(judged)))
        self.register_buffer("whiten", torch.eye(len(judged)))

    def fit_whitening(self, residuals: Tensor) -> None:
        """`residuals` float64 (N, j) of normal data."""
        deviation = residuals.square().mean(0).sqrt().clamp_min(FLOOR)
        standardized = residuals / deviation
        root = shrunk_root(standardized.T @ standardized / len(residuals), self.shrinkage)
        self.whiten.copy_(root / deviation[:, None])

    def forward(self, window: Tensor, live: Tensor) -> tuple[Tensor, Tensor]:
        """window (..., SPAN, m) standardized, live (m,) -> energy (...,), shares (..., j)."""
        squares = whitened_squares([self], window * live, live).squeeze(-2)
        shares = squares * live_weights(live.index_select(0, self.judged))
        return shares.sum(-1), shares


class OwnLags(Forecast):
    """Each sensor from its own last three values (least squares, with intercept)."""

    back, shrinkage = 3, 0.5

    def __init__(self, judged: Tensor) -> None:
        super().__init__(judged, 3)

    def features(self, own: Tensor, count: int) -> list[Tensor]:
        """Samples of the judged sensors (..., T, j) -> what each of the newest `count` is forecast from, in the order
        of the weights, (..., count, j) each."""
        end = own.shape[-2]
        return [own[..., end - count - back : end - back, :] for back in (3, 2, 1)]

    def fit(self, stretches: Sequence[Stretch]) -> None:
        """Learn weights and whitening of the samples that may be learned from."""
        x, y = gathered(
            stretches,
            self.back,
            lambda samples: torch.stack(self.features(samples[:, self.judged], len(samples) - self.back), -1),
            lambda samples: samples[:, self.judged],
        )  # (N, j, 3), (N, j)
        weights, intercept, residuals = own_forecasts(x, y)
        self.weights.copy_(weights.T)
        self.intercept.copy_(intercept)
        self.fit_whitening(residuals)


class OwnAhead(OwnLags):
    """Each sensor from its own value five samples before, and from its means until then."""

    back = AHEAD + LONG - 1

    def features(self, own: Tensor, count: int) -> list[Tensor]:
        past = own[..., own.shape[-2] - count - self.back : own.shape[-2] - AHEAD, :]
        return [*running_means(past), past[..., -count:, :]]


class AllLags(Forecast):
    """Each judged sensor from the last three samples of all, and from the context of the same moment.

    Ridge regression; what is not judged (commands, set points) is context.
    """

    back, ridge, shrinkage = 3, 0.01, 0.01
    context: Tensor
    """int64 (c,): columns that are not judged."""

    def __init__(self, judged: Tensor, m: int) -> None:
        context = torch.tensor([column for column in range(m) if column not in judged.tolist()], dtype=torch.int64)
        super().__init__(judged, self.back * m + len(context))
        self.register_buffer("context", context)

    def features(self, samples: Tensor, count: int) -> Tensor:
        """Samples (..., T, m) -> what the newest `count` are forecast from, (..., count, 3 m + c)."""
        end = samples.shape[-2]
        parts = [samples[..., end - count - back : end - back, :] for back in range(1, self.back + 1)]
        if len(self.context):
            parts.append(samples[..., end - count :, :].index_select(-1, self.context))
        return torch.cat(parts, -1)

    def fit(self, stretches: Sequence[Stretch]) -> None:
        """Learn weights and whitening of the samples that may be learned from."""
        x, y = gathered(
            stretches,
            self.back,
            lambda samples: self.features(samples, len(samples) - self.back),
            lambda samples: samples[:, self.judged],
        )
        center, level = x.mean(0), y.mean(0)
        x, y = x - center, y - level
        penalty = self.ridge * len(x) * torch.eye(x.shape[1], dtype=x.dtype)
        weights = torch.linalg.solve(x.T @ x + penalty, x.T @ y)
        self.weights.copy_(weights)
        self.intercept.copy_(level - center @ weights)
        self.fit_whitening(y - x @ weights)


def whitened_squares(terms: Sequence[Forecast], seen: Tensor, live: Tensor) -> Tensor:
    """What several forecasts, those of a sensor by itself first, did not tell of the newest samples.

    seen (..., SPAN, m) standardized, zeros of what is not live (m,) -> mean squares (..., terms, j). All terms at once:
    a step graph of a few operators.
    """
    judged = terms[0].judged
    own = chosen(seen, judged)
    forecasts, alone = [], [term for term in terms if isinstance(term, OwnLags)]
    if alone:
        features = torch.cat([feature for term in alone for feature in term.features(own, RECENT)], -2)
        features = features.unflatten(-2, (len(alone), -1, RECENT))  # (..., terms, 3, RECENT, j)
        weights = torch.stack([term.weights for term in alone]).unsqueeze(-2)
        forecasts.append((features * weights).sum(-3).flatten(-3, -2))
    forecasts += [term.features(seen, RECENT) @ term.weights for term in terms if isinstance(term, AllLags)]
    intercepts = torch.stack([term.intercept for term in terms]).unsqueeze(-2)  # (terms, 1, j)
    told = torch.cat(forecasts, -2).unflatten(-2, (len(terms), RECENT)) + intercepts
    residuals = (own[..., -RECENT:, :].unsqueeze(-3) - told) * live.index_select(0, judged)
    return (residuals @ torch.stack([term.whiten for term in terms])).square().mean(-2)


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
        """Samples of the judged sensors (..., T, j), LONG + 1 or more -> features at the newest, (..., 5, j)."""
        newest, shortly = own[..., -LONG:, :], own[..., -2 * SHORT :, :]
        steps = (newest - own[..., -LONG - 1 : -1, :]).square()
        spread = (shortly - shortly.mean(-2, keepdim=True)).square()
        levels = [of[..., -length:, :].mean(-2, keepdim=True) for of in (newest, steps) for length in (SHORT, LONG)]
        rough = torch.cat([*levels[2:], spread.mean(-2, keepdim=True)], -2)
        return torch.cat([*levels[:2], (rough + self.floor).log()], -2)

    def fit(self, stretches: Sequence[Stretch]) -> None:
        """Learn centers and whitening of the samples that may be learned from."""
        found = []
        for stretch in stretches:
            rows, own = stretch.rows(LONG), stretch.samples[:, self.judged]
            for some in rows.split(1024):
                found.append(self.features(own[some[:, None] + torch.arange(-LONG, 1)]))
        features = torch.cat(found).transpose(1, 2)  # (N, j, 5)
        center = features.mean(0)
        deviation = features.std(0, correction=0).clamp_min(FLOOR)
        standardized = (features - center) / deviation
        root = shrunk_root(torch.einsum("njf,njg->jfg", standardized, standardized) / len(features), self.shrinkage)
        self.center.copy_(center)
        self.whiten.copy_(root / deviation.unsqueeze(-1))

    def squares(self, window: Tensor) -> Tensor:
        """window (..., SPAN, m) standardized -> mean squares of the whitened features (..., 1, j)."""
        features = self.features(chosen(window, self.judged)) - self.center.T  # (..., 5, j)
        whitened = (features.unsqueeze(-3) * self.whiten.permute(2, 1, 0)).sum(-2)  # (..., 5, j)
        return whitened.square().mean(-2, keepdim=True)

    def forward(self, window: Tensor, live: Tensor) -> tuple[Tensor, Tensor]:
        """window (..., SPAN, m) standardized, live (m,) -> energy (...,), shares (..., j)."""
        shares = self.squares(window).squeeze(-2) * live_weights(live.index_select(0, self.judged))
        return shares.sum(-1), shares


def chosen(samples: Tensor, columns: Tensor) -> Tensor:
    """(..., m) -> (..., j); columns are in order, so where all are there is nothing to choose."""
    return samples if len(columns) == samples.shape[-1] else samples.index_select(-1, columns)


def running_means(samples: Tensor) -> tuple[Tensor, Tensor]:
    """Samples (..., T, j) -> means of the LONG and of the SHORT newest at each moment that has the long ones.

    Sums of sums: a step graph of a few additions.
    """
    two = samples[..., 1:, :] + samples[..., :-1, :]
    four = two[..., 2:, :] + two[..., :-2, :]
    eight = four[..., 4:, :] + four[..., :-4, :]
    short = (eight[..., 2:, :] + two[..., :-8, :]) / SHORT  # 8 + 2
    if (moments := samples.shape[-2] - LONG + 1) == SHORT:  # ends of means LONG long are then those of SHORT ones
        return short.unflatten(-2, (LONG // SHORT, SHORT)).mean(-3), short[..., -moments:, :]
    pieces = torch.stack([short[..., start : start + moments, :] for start in range(0, LONG, SHORT)])
    return pieces.mean(0), short[..., -moments:, :]


def shrunk_root(correlation: Tensor, shrinkage: float) -> Tensor:
    """(C + rho I)^(-1/2), symmetric, of float64 (..., k, k)."""
    values, vectors = torch.linalg.eigh(correlation + shrinkage * torch.eye(correlation.shape[-1], dtype=torch.float64))
    return (vectors / values.sqrt().unsqueeze(-2)) @ vectors.transpose(-1, -2)
