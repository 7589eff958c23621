"""The student of a series that knows what it looks at: energies instead of convolutions.

A signature matrix is not an image: neighbors in it mean nothing, it is symmetric, and what a detector says of it is, in
the main, how large it is. So this student measures energies, which the scores of reconstruction and distance alike are
made of: of each sensor's row of the standardized matrices, and of learned directions of the samples (which begin as
those of the Mahalanobis distance) over each of the three windows. On a logarithmic scale a small dense network adds
them up, beside a linear path from the total energies, so that it goes on rightly beyond what it was shown.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgekd.blocks.score_terms import Mahalanobis

FLOOR = 1e-3  # added to an energy before its logarithm is taken; of normal data it is about one
HIDDEN = 32
SPREAD_FLOOR = 0.1  # smallest deviation that a feature is divided by


class EnergyStudent(nn.Module):
    """Scaled samples of a window, and the row energies of its matrices -> the predicted standardized log score.

    m: sensors; lengths: window lengths of the three scales; matrices: whether there are any to measure.
    """

    averages: Tensor
    center: Tensor
    feature_mean: Tensor
    feature_scale: Tensor

    def __init__(self, m: int, lengths: tuple[int, int, int], matrices: bool, hidden: int = HIDDEN) -> None:
        super().__init__()
        self.m = m
        kinds = len(lengths) * (2 if matrices else 1)
        averages = torch.zeros(len(lengths), max(lengths))
        for row, length in zip(averages, lengths):
            row[-length:] = 1.0 / length
        # derived from the lengths, so not part of a checkpoint
        self.register_buffer("averages", averages, persistent=False)  # (3, span)
        self.directions = nn.Parameter(torch.eye(m))  # (m, m), columns
        self.register_buffer("center", torch.zeros(m))
        self.register_buffer("feature_mean", torch.zeros(kinds, m + 1))
        self.register_buffer("feature_scale", torch.ones(kinds, m + 1))
        # dense layers as convolutions of one pixel: the same numbers, and every int8 tool takes them along
        self.hidden = nn.Conv2d(kinds * (m + 1), hidden, 1)
        self.head = nn.Linear(hidden, 1)
        self.direct = nn.Linear(kinds, 1, bias=False)
        nn.init.constant_(self.direct.weight, 1.0 / kinds)

    @torch.no_grad()
    def fit(self, samples: np.ndarray, windows: Tensor, rows: Tensor | None) -> None:
        """Directions from scaled training samples (T, m); scales from windows (N, span, m) and their rows (N, 3, m)."""
        term = Mahalanobis(self.m)
        term.fit(samples)
        self.center.copy_(term.center)
        self.directions.copy_(term.whiten)
        features = self.features(windows, rows, torch.ones(self.m))
        self.feature_mean.copy_(features.mean(0))
        self.feature_scale.copy_(features.std(0, correction=0).clamp_min(SPREAD_FLOOR))

    def forward(self, windows: Tensor, rows: Tensor | None, live: Tensor) -> Tensor:
        """windows (B, span, m) scaled, rows (B, 3, m) or None, live (m,) 1 or 0 -> g (B,).

        rows: sum of squares over each row of the standardized matrices, sensors that are not live left out.
        """
        present = F.pad(live, (1, 0), value=1.0)  # (m + 1,)
        features = (self.features(windows, rows, live) - self.feature_mean) * (present / self.feature_scale)
        hidden = F.relu(self.hidden(features.reshape(len(features), -1, 1, 1))).flatten(1)
        return (self.head(hidden) + self.direct(features[:, :, 0])).squeeze(1)

    def features(self, windows: Tensor, rows: Tensor | None, live: Tensor) -> Tensor:
        """Log energies (B, kinds, 1 + m): the mean over what is live, then one for each direction or sensor."""
        count = live.sum().clamp_min(1.0)
        energies = self.averages @ (((windows - self.center) * live) @ self.directions).square()  # (B, 3, m)
        if rows is not None:
            energies = torch.cat([energies, rows / count], 1)  # (B, 6, m)
        totals = (energies @ live) / count  # (B, kinds)
        return (torch.cat([totals.unsqueeze(-1), energies], -1) + FLOOR).log()
