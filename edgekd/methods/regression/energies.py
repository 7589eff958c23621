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

from edgekd.terms import Mahalanobis, live_pairs

FLOOR = 1e-3  # added to an energy before its logarithm is taken; of normal data it is about one
HIDDEN = 32
SPREAD_FLOOR = 0.1  # smallest deviation that a feature is divided by


class EnergyStudent(nn.Module):
    """Standardized matrices and scaled samples of a window -> the predicted standardized log score.

    m: sensors; lengths: window lengths of the three scales; matrices: whether there are any to measure.
    """

    center: Tensor
    feature_mean: Tensor
    feature_scale: Tensor

    def __init__(self, m: int, lengths: tuple[int, int, int], matrices: bool, hidden: int = HIDDEN) -> None:
        super().__init__()
        self.m, self.lengths, self.matrices = m, lengths, matrices
        self.directions = nn.Parameter(torch.eye(m))  # (m, m), columns
        self.totals = len(lengths) * (2 if matrices else 1)
        count = self.totals + len(lengths) * m * (2 if matrices else 1)
        self.register_buffer("center", torch.zeros(m))
        self.register_buffer("feature_mean", torch.zeros(count))
        self.register_buffer("feature_scale", torch.ones(count))
        # dense layers as convolutions of one pixel: the same numbers, and every int8 tool takes them along
        self.hidden = nn.Conv2d(count, hidden, 1)
        self.head = nn.Linear(hidden, 1)
        self.direct = nn.Linear(self.totals, 1, bias=False)
        nn.init.constant_(self.direct.weight, 1.0 / self.totals)

    @torch.no_grad()
    def fit(self, samples: np.ndarray, windows: Tensor, matrices: Tensor | None) -> None:
        """Directions from scaled training samples (T, m); scales from windows (N, span, m), matrices (N, 3, m, m)."""
        term = Mahalanobis(self.m)
        term.fit(samples)
        self.center.copy_(term.center)
        self.directions.copy_(term.whiten)
        features = self.features(windows, matrices, torch.ones(self.m))[0]
        self.feature_mean.copy_(features.mean(0))
        self.feature_scale.copy_(features.std(0, correction=0).clamp_min(SPREAD_FLOOR))

    def forward(self, windows: Tensor, matrices: Tensor | None, live: Tensor) -> Tensor:
        """windows (B, span, m) scaled, matrices (B, 3, m, m) or None, live (m,) 1 or 0 -> g (B,)."""
        features, present = self.features(windows, matrices, live)
        features = (features - self.feature_mean) / self.feature_scale * present
        hidden = F.relu(self.hidden(features[:, :, None, None])).flatten(1)
        return (self.head(hidden) + self.direct(features[:, : self.totals])).squeeze(1)

    def features(self, windows: Tensor, matrices: Tensor | None, live: Tensor) -> tuple[Tensor, Tensor]:
        """Log energies (B, F), the totals first, and which of them there are (F,): a dead sensor's row is not."""
        count = live.sum().clamp_min(1.0)
        turned = (((windows - self.center) * live) @ self.directions).square()  # (B, span, m)
        along = torch.stack([turned[:, -length:].mean(1) for length in self.lengths], 1)  # (B, 3, m)
        totals, single, present = [along.sum(-1) / count], [along.flatten(1)], [torch.ones_like(live).repeat(3)]
        if self.matrices:
            assert matrices is not None
            rows = (matrices.square() * live_pairs(live)).sum(-1) / count  # (B, 3, m)
            totals.append(rows.sum(-1) / count)
            single.append(rows.flatten(1))
            present.append(live.repeat(3))
        features = (torch.cat([*totals, *single], 1) + FLOOR).log()
        return features, torch.cat([torch.ones_like(live[:1]).repeat(self.totals), *present])
