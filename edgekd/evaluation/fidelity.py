"""How faithful a student is to its teacher: rank correlation, and the distance between the two distributions of scores.

Source: score regression (arXiv 2310.06047) compares the distributions by their earth mover's distance; here it is the
one-dimensional Wasserstein-1 distance of the logarithms, in deviations of the teacher's normal training scores.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

TINY = 1e-8  # added to a score before its logarithm is taken


@dataclass(frozen=True)
class Fidelity:
    """Student against teacher on the same samples; None where a distance has nothing to be measured on."""

    rank_correlation: float
    """Spearman, all samples."""
    emd_normal: float | None
    emd_anomalous: float | None
    emd_pooled: float

    def to_json(self) -> dict[str, float | None]:
        return asdict(self)

    def in_words(self) -> str:
        """One line for people."""
        parts = [
            f"{name} {value:.3f}"
            for name, value in (
                ("normal", self.emd_normal), ("anomalous", self.emd_anomalous), ("pooled", self.emd_pooled)
            )
            if value is not None
        ]  # fmt: skip
        return f"rank correlation {self.rank_correlation:.3f}; earth mover's distance of log scores: {', '.join(parts)}"


def fidelity(
    teacher: np.ndarray, student: np.ndarray, anomalous: np.ndarray | None, normal_scores: np.ndarray
) -> Fidelity:
    """teacher, student: scores (V,) in the teacher's units; anomalous: bool (V,) or None; normal_scores: the teacher's
    scores (N,) of normal training data, which set the scale."""
    from scipy.stats import spearmanr, wasserstein_distance

    logs = np.log(normal_scores.astype(np.float64) + TINY)
    mean, deviation = logs.mean(), max(float(logs.std()), 1e-3)
    one, other = ((np.log(scores.astype(np.float64) + TINY) - mean) / deviation for scores in (teacher, student))

    def distance(chosen: np.ndarray) -> float | None:
        return float(wasserstein_distance(one[chosen], other[chosen])) if chosen.any() else None

    everything = np.ones(len(one), bool)
    return Fidelity(
        rank_correlation=float(spearmanr(one, other).statistic),
        emd_normal=None if anomalous is None else distance(~anomalous),
        emd_anomalous=None if anomalous is None else distance(anomalous),
        emd_pooled=float(wasserstein_distance(one[everything], other[everything])),
    )
