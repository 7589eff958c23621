"""Score terms: how abnormal scaled samples or matrices are, each with the share of every sensor in it.

Every term maps its input and `live` (m,) 1 or 0 to `score` (...,) and `contributions` (..., m) that sum to it. Sensors
that are not live are kept out and the score is normalized by what is left. A leading batch axis is optional, so the
same code serves the step graph (none) and the batch path (windows).
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgekd.blocks.signature import MatrixScaler

TINY = 1e-12


def live_pairs(live: Tensor) -> Tensor:
    """live (m,) -> (m, m), 1 where both sensors are live."""
    return live[:, None] * live


def live_weights(live: Tensor) -> Tensor:
    """live (m,) -> (m,) that sum to 1 over the live sensors."""
    return live / live.sum().clamp_min(1.0)


def pair_shares(elements: Tensor, live: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of non-negative elements over live pairs; a pair counts half for each sensor.

    elements: one or several symmetric matrices below each other, (..., k m, m).
    """
    weights = live_weights(live)
    matrices = elements.shape[-2] // len(live)
    rows = torch.cat([weights / matrices] * matrices) if matrices > 1 else weights
    # with the row on the left: onnxruntime takes products with a column number by number
    shares = (rows @ elements) * weights  # (..., m)
    return shares.sum(-1), shares


def below_each_other(shares: list[Tensor]) -> Tensor:
    """Contributions to each term, (..., m) each -> (..., terms, m)."""
    return torch.cat(shares, -1).unflatten(-1, (len(shares), -1))  # a node less for each than to stack


def sensor_shares(elements: Tensor, live: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of non-negative elements (..., samples, m) over samples and live sensors."""
    shares = elements.mean(-2) * live_weights(live)  # (..., m)
    return shares.sum(-1), shares


class Mahalanobis(nn.Module):
    """Mean squared Mahalanobis distance of the newest samples, per sensor.

    The distance is written as the squared length of the sample whitened by the symmetric root of the precision
    matrix, so that it falls apart into one non-negative share for each sensor (Garthwaite & Koch,
    Biometrika 103(4), 2016).
    """

    center: Tensor
    whiten: Tensor

    def __init__(self, n: int) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(n))
        self.register_buffer("whiten", torch.eye(n))

    def fit(self, samples: np.ndarray, ridge: float = 0.01) -> None:
        """`samples` (T, m) scaled training samples; `ridge` is added to the variance of each standardized column."""
        samples = samples.astype(np.float64)
        std = np.maximum(samples.std(0), 1e-6)
        correlation = np.atleast_2d(np.cov((samples / std).T, bias=True))
        values, vectors = np.linalg.eigh(correlation + ridge * np.eye(len(std)))
        root = (vectors / np.sqrt(values)) @ vectors.T
        self.center.copy_(torch.from_numpy(samples.mean(0)))
        self.whiten.copy_(torch.from_numpy(root / std[:, None]))

    def forward(self, samples: Tensor, live: Tensor) -> tuple[Tensor, Tensor]:
        """samples (..., k, m) -> score (...,), contributions (..., m)."""
        whitened = ((samples - self.center) * live) @ self.whiten
        return sensor_shares(whitened.square(), live)


class SamplePCA(nn.Module):
    """Mean squared residual of the newest samples outside the principal subspace of the training samples."""

    center: Tensor
    axes: Tensor

    def __init__(self, n: int, components: int) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(n))
        self.register_buffer("axes", torch.zeros(components, n))

    def fit(self, samples: np.ndarray) -> None:
        """`samples` (T, m) scaled training samples."""
        from sklearn.decomposition import PCA

        pca = PCA(len(self.axes), svd_solver="covariance_eigh").fit(samples.astype(np.float64))
        self.center.copy_(torch.from_numpy(pca.mean_))
        self.axes.copy_(torch.from_numpy(pca.components_))

    def forward(self, samples: Tensor, live: Tensor) -> tuple[Tensor, Tensor]:
        """samples (..., k, m) -> score (...,), contributions (..., m)."""
        centered = (samples - self.center) * live
        residual = centered - (centered @ self.axes.T) @ self.axes
        return sensor_shares(residual.square(), live)


class SignatureEnergy(nn.Module):
    """Mean square of the standardized signature matrices: what is left of a detector when there is no model."""

    def forward(self, matrices: Tensor, scaler: MatrixScaler, live: Tensor) -> tuple[Tensor, Tensor]:
        """matrices (..., 3, m, m), what standardizes them, live (m,) -> score (...,), contributions (..., m)."""
        return pair_shares(scaler(matrices).square().flatten(-3, -2), live)


class SignaturePCA(nn.Module):
    """Mean squared residual of the standardized signature matrices outside their principal subspace.

    Of few sensors, `components` are at most half of the elements that differ, else rounding is all that is left.
    """

    center: Tensor
    axes: Tensor

    def __init__(self, n: int, components: int) -> None:
        super().__init__()
        components = min(components, 3 * n * (n + 1) // 4)
        self.register_buffer("center", torch.zeros(3 * n * n))
        self.register_buffer("axes", torch.zeros(components, 3 * n * n))

    def fit(self, matrices: np.ndarray, seed: int) -> None:
        """`matrices` (windows, 3, m, m) standardized training windows; of few, half as many components are taken."""
        from sklearn.decomposition import PCA

        flat = matrices.reshape(len(matrices), -1)
        components = min(len(self.axes), len(flat) // 2)
        pca = PCA(components, svd_solver="randomized", random_state=seed).fit(flat)
        self.center.copy_(torch.from_numpy(pca.mean_))
        self.axes[:components].copy_(torch.from_numpy(pca.components_))

    def inside(self, matrices: Tensor, live: Tensor | None = None) -> Tensor:
        """matrices (..., 3, m, m) standardized -> what the principal subspace has of them, (..., 3, m, m).

        Pairs that are not live are taken to be as usual.
        """
        center = self.center.reshape(matrices.shape[-3:])
        centered = matrices - center
        if live is not None:
            centered = centered * live_pairs(live)
        return (F.linear(centered.flatten(-3), self.axes) @ self.axes).reshape(centered.shape) + center

    def forward(self, matrices: Tensor, scaler: MatrixScaler, live: Tensor) -> tuple[Tensor, Tensor]:
        """matrices (..., 3, m, m), what standardizes them, live (m,) -> score (...,), contributions (..., m)."""
        centered = scaler(matrices, self.center.reshape(matrices.shape[-3:])) * live_pairs(live)
        flat = centered.reshape(-1, len(self.center))  # (batch, 3 m m)
        # but for its sign; beta, since what alpha makes of the axes is not found by the int8 scheme of TFLite
        residual = torch.addmm(flat, F.linear(flat, self.axes), self.axes, beta=-1.0)
        return pair_shares(residual.square().reshape(*matrices.shape[:-3], -1, len(live)), live)


class Residual(nn.Module):
    """Mean squared residual of a reconstruction, each element against its own training variance.

    `floor` of the mean variance is added to every element's, so that an element that was almost constant in training
    does not decide the score alone.
    """

    floor = 0.05
    variance: Tensor

    def __init__(self, n: int) -> None:
        super().__init__()
        self.register_buffer("variance", torch.ones(3, n, n))

    def fit(self, mean_square: Tensor) -> None:
        """`mean_square` (3, m, m): mean squared training residual of every element."""
        self.variance.copy_(mean_square + self.floor * mean_square.mean() + TINY)

    def forward(self, residual: Tensor, live: Tensor) -> tuple[Tensor, Tensor]:
        """residual (..., 3, m, m) -> score (...,), contributions (..., m)."""
        scales, m = residual.shape[-3:-1]
        # as a product: onnxruntime sums over the third axis from the right in passes
        summed = torch.full((1, scales), 0.5 / scales) @ (residual.square() / self.variance).flatten(-2)
        summed = summed.reshape(*residual.shape[:-3], m, m)
        return pair_shares(summed + summed.transpose(-1, -2), live)


class TopResidual(nn.Module):
    """Mean of the top 1 % squared residuals of the shortest scale: the continuous form of the paper's count."""

    share = 0.01

    def __init__(self, n: int) -> None:
        super().__init__()
        self.n = n
        self.most = max(1, round(self.share * n * n))

    def fit(self, mean_square: Tensor) -> None:
        """Nothing to learn."""

    def forward(self, residual: Tensor, live: Tensor) -> tuple[Tensor, Tensor]:
        """residual (..., 3, m, m) -> score (...,), contributions (..., m)."""
        squared = (residual[..., 0, :, :].square() * live_pairs(live)).flatten(-2)  # (..., m * m)
        top, index = squared.topk(self.most, dim=-1)  # (..., most)
        # with sensors missing, one percent of the pairs that are left is fewer elements, the last one in part
        count = (self.share * live.sum().square()).clamp(1.0, float(self.most))
        weight = (count - torch.arange(self.most, dtype=top.dtype)).clamp(0.0, 1.0)
        top = top * weight / count
        sensors = torch.arange(self.n)
        row = (index // self.n).unsqueeze(-1) == sensors  # (..., most, m)
        column = (index % self.n).unsqueeze(-1) == sensors
        shares = ((row.to(top.dtype) + column.to(top.dtype)) * top.unsqueeze(-1)).sum(-2) / 2.0
        return shares.sum(-1), shares


class GeometricMean(nn.Module):
    """Weighted geometric mean of several terms: the sum of their log scores, each by its spread in training.

    Shares are those of the terms, weighted alike, so they still sum to the score, but for terms at the floor.
    """

    center: Tensor
    weight: Tensor

    def __init__(self, terms: int) -> None:
        super().__init__()
        self.register_buffer("center", torch.ones(terms))
        self.register_buffer("weight", torch.full((terms,), 1.0 / terms))

    def fit(self, scores: np.ndarray, floor: float = 1e-3) -> None:
        """`scores` (windows, terms) on normal windows; `floor` of the spread of a log score."""
        logs = np.log(np.maximum(scores.astype(np.float64), TINY))
        precision = 1.0 / np.maximum(logs.std(0), floor)
        self.center.copy_(torch.from_numpy(np.exp(logs.mean(0))))
        self.weight.copy_(torch.from_numpy(precision / precision.sum()))

    def forward(self, shares: Tensor) -> tuple[Tensor, Tensor]:
        """Contributions to each term (..., terms, m), summing to its score -> score (...,), contributions (..., m)."""
        # a floor, since exporters drop the addition of so little as if it were of zero
        scores = shares.sum(-1).clamp_min(TINY)  # (..., terms)
        total = ((scores / self.center).log() @ self.weight.unsqueeze(-1)).exp()  # (..., 1)
        weights = self.weight / scores * total  # (..., terms)
        # one window is spared the nodes of a batch
        contributions = weights @ shares if shares.dim() == 2 else (weights.unsqueeze(-2) @ shares).squeeze(-2)
        return total.squeeze(-1), contributions
