"""The decision of MSCRED and of the distilled-MSCRED paper: count the elements of a residual matrix that are too large.

An element is too large where its squared residual exceeds theta, a window is anomalous where more than K elements are.
Published rules: theta = 0.005 and K = 1.5 times the largest count on normal data (MSCRED's code); the distilled-MSCRED
paper names two thresholds, says that they aimed at the highest F1 and gives no rule without labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgekd.evaluation.events import point_scores
from edgekd.evaluation.metrics import BestPointAdjusted, point_adjusted

REFERENCE_THETA = 0.005  # of MSCRED's code
THETAS = np.append(np.geomspace(1e-5, 1.0, 30), REFERENCE_THETA)
"""The thetas that a search tries, and the published one."""


def exceedances(squared: np.ndarray, thetas: np.ndarray) -> np.ndarray:
    """How many squared residuals of each window lie above each theta.

    squared: float (B, ...), every element of a window's residual matrix; thetas: float (K,). Returns int32 (B, K).
    """
    rows = np.sort(squared.reshape(len(squared), -1), axis=1)
    below = [np.searchsorted(row, thetas.astype(rows.dtype), side="right") for row in rows]
    return (rows.shape[1] - np.array(below, np.int32).reshape(len(rows), len(thetas))).astype(np.int32)


@dataclass(frozen=True)
class CountRule:
    """Both thresholds, and what they do under point adjustment with the whole recording as one stream."""

    theta: float
    k: float
    precision: float
    recall: float
    f1: float


def best_rule(
    labels: np.ndarray, samples: np.ndarray, counts: np.ndarray, thetas: np.ndarray, hop: int
) -> CountRule:  # fmt: skip
    """The theta of `thetas` and the K of all distinct counts with the highest point-adjusted F1 on these very labels.

    labels: bool (T,); samples: int (V,); counts: int (V, K) as from `exceedances`. For the comparison with published
    tables only.
    """
    found = []
    for column in range(len(thetas)):
        points, _ = point_scores(samples, counts[:, column], hop, len(labels))
        found.append(BestPointAdjusted(labels, points).best())
    column = int(np.argmax([f1 for f1, _ in found]))
    # the largest count that is none; lowest level and the value of points without a verdict lie below every K
    k = float(np.max(counts[:, column], where=counts[:, column] < found[column][1], initial=-1))
    return fixed_rule(labels, samples, counts[:, column], float(thetas[column]), k, hop)


def fixed_rule(
    labels: np.ndarray, samples: np.ndarray, counts: np.ndarray, theta: float, k: float, hop: int
) -> CountRule:  # fmt: skip
    """What "more than `k` elements above `theta`" does; counts: int (V,), those above theta."""
    points, _ = point_scores(samples, counts, hop, len(labels))
    adjusted = point_adjusted(labels, points > k)
    return CountRule(theta, k, adjusted.precision, adjusted.recall, adjusted.f1)
