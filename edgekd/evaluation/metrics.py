"""Measures of detection from point scores and labels.

`vus_pr` and `auc_pr` rank; the others count at a threshold. Every point-adjusted figure flatters, random scores too
(Kim et al., AAAI 2022): it is here to be compared with published tables, never alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import auc, average_precision_score

from edgekd.evaluation.events import runs
from edgekd.evaluation.vus import check_points, vus, vus_pr, vus_roc

__all__ = [
    "BestPointAdjusted",
    "Counts",
    "auc_pr",
    "pa_k_auc",
    "point_adjusted",
    "pointwise",
    "vus",
    "vus_pr",
    "vus_roc",
]

PA_K = np.arange(101)  # percent


def auc_pr(labels: np.ndarray, scores: np.ndarray) -> float:
    """Area under the pointwise precision-recall curve, as average precision (scikit-learn).

    labels: bool (T,); scores: float (T,). Raises UsageError where labels are all equal or a score is not finite.
    """
    labels, scores = check_points(labels, scores)
    return float(average_precision_score(labels, scores))


@dataclass(frozen=True)
class Counts:
    """Points counted right and wrong."""

    true_positive: int
    false_positive: int
    false_negative: int

    @property
    def precision(self) -> float:
        """0 where nothing was predicted."""
        predicted = self.true_positive + self.false_positive
        return self.true_positive / predicted if predicted else 0.0

    @property
    def recall(self) -> float:
        """0 where there is nothing to find."""
        actual = self.true_positive + self.false_negative
        return self.true_positive / actual if actual else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        total = 2 * self.true_positive + self.false_positive + self.false_negative
        return 2 * self.true_positive / total if total else 0.0


def pointwise(labels: np.ndarray, positive: np.ndarray) -> Counts:
    """Counts without any adjustment.

    labels, positive: bool (T,).
    """
    labels, positive = np.asarray(labels, bool), np.asarray(positive, bool)
    return Counts(int(np.sum(labels & positive)), int(np.sum(~labels & positive)), int(np.sum(labels & ~positive)))


def point_adjusted(
    labels: np.ndarray, positive: np.ndarray, starts: Sequence[int] = (0,), k_percent: float = 0.0
) -> Counts:
    """Counts after point adjustment: a segment of which more than k % was found counts as found in full.

    labels, positive: bool (T,). k = 0 is the usual point adjustment (Xu et al., WWW 2018); k = 100 adjusts nothing.
    PA%K: Kim, Choi, Choi, Lee, Yoon: Towards a Rigorous Evaluation of Time-Series Anomaly Detection, AAAI 2022.
    """
    plain = pointwise(labels, positive)
    segments = runs(labels, starts)
    found, lengths = _found(positive, segments)
    gained = int(np.sum((lengths - found)[100 * found > k_percent * lengths]))
    return Counts(plain.true_positive + gained, plain.false_positive, plain.false_negative - gained)


def pa_k_auc(labels: np.ndarray, positive: np.ndarray, starts: Sequence[int] = (0,)) -> float:
    """Area under F1 over K = 0 ... 100 % of PA%K, at one given set of predictions; in [0, 1].

    labels, positive: bool (T,). Kim et al., AAAI 2022.
    """
    plain = pointwise(labels, positive)
    found, lengths = _found(positive, runs(labels, starts))
    adjusted = 100 * found[None, :] > PA_K[:, None] * lengths[None, :]  # (101, m)
    true = plain.true_positive + adjusted @ (lengths - found)
    total = 2 * plain.true_positive + plain.false_positive + plain.false_negative + adjusted @ (lengths - found)
    return float(auc(PA_K / 100, 2 * true / np.maximum(total, 1)))


def _found(positive: np.ndarray, segments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(m,) predicted points, and length, of each segment."""
    seen = np.concatenate(([0], np.cumsum(np.asarray(positive, bool))))
    return seen[segments[:, 1]] - seen[segments[:, 0]], segments[:, 1] - segments[:, 0]


class BestPointAdjusted:
    """The point-adjusted F1 of the threshold that is best on these very labels, for any K.

    This is the protocol of many published tables; it chooses the threshold by the answer and is no estimate of what a
    detector will do. Adjusting is the same as giving every point of a segment at least the score at which the segment
    counts as found, so one sort serves all K.
    """

    def __init__(self, labels: np.ndarray, scores: np.ndarray, starts: Sequence[int] = (0,)) -> None:
        """labels: bool (T,); scores: float (T,). Raises UsageError as `auc_pr` does."""
        labels, scores = check_points(labels, scores)
        levels, rank = np.unique(scores, return_inverse=True)
        self._levels, self._n_levels = levels, len(levels)
        self._false = _at_least(rank[~labels], self._n_levels)  # (L,) false positives at each level as threshold
        self._ranks = rank[labels]  # (P,)
        segments = runs(labels, starts)
        self._lengths = segments[:, 1] - segments[:, 0]
        self._ends = np.cumsum(self._lengths)
        segment = np.repeat(np.arange(len(segments)), self._lengths)  # (P,)
        order = np.lexsort((-self._ranks, segment))
        self._sorted = self._ranks[order]  # each segment's ranks, highest first

    def f1(self, k_percent: int = 0) -> float:
        """Best F1 over all thresholds under PA%K; k = 0 is the usual point adjustment, 100 is pointwise F1."""
        return self.best(k_percent)[0]

    def best(self, k_percent: int = 0) -> tuple[float, float]:
        """That F1, and the lowest score that counts as an alarm there."""
        needed = k_percent * self._lengths // 100  # more than k %: this many points and one more
        reachable = needed < self._lengths
        place = (self._ends - self._lengths + np.minimum(needed, self._lengths - 1)).astype(np.int64)
        found_at = np.where(reachable, self._sorted[place], 0)
        true = _at_least(np.maximum(self._ranks, np.repeat(found_at, self._lengths)), self._n_levels)
        f1 = 2 * true / (true + self._false + len(self._ranks))
        level = int(np.argmax(f1))
        return float(f1[level]), float(self._levels[level])

    def auc_over_k(self) -> float:
        """Area under the best F1 over K = 0 ... 100 %, the threshold chosen anew for each K (Kim et al., AAAI 2022)."""
        return float(auc(PA_K / 100, [self.f1(int(k)) for k in PA_K]))


def _at_least(ranks: np.ndarray, n_levels: int) -> np.ndarray:
    """(L,) how many ranks are at or above each level."""
    return np.cumsum(np.bincount(ranks, minlength=n_levels)[::-1])[::-1]
