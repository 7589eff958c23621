"""What a detector that knows nothing would get, to stand beside every figure.

Two ways of knowing nothing: random scores against the true labels (they show what the labels alone give away, and how
far a protocol flatters), and the detector's own scores against labels laid out anew (they show what the slowness of the
scores alone gives).
"""

from __future__ import annotations

import numpy as np

from edgekd.evaluation.events import runs


def random_scores(n_verdicts: int, seed: int) -> np.ndarray:
    """Uniform in [0, 1), one for each verdict, float64 (V,), so that chance has the detector's own hop."""
    return np.random.default_rng(seed).random(n_verdicts)


def relaid_labels(labels: np.ndarray, seed: int) -> np.ndarray:
    """The labeled segments and the gaps between them, as they are, laid out again in a random order.

    labels: bool (T,). Returns bool (T,) with the same number of anomalous points in segments of the same lengths; the
    end joins on to the beginning, so that one segment or gap may be cut there.
    """
    rng = np.random.default_rng(seed)
    segments = runs(labels)
    if not len(segments):
        return np.array(labels, bool)
    gaps = (
        np.append(segments[1:, 0], segments[0, 0] + len(labels)) - segments[:, 1]
    )  # (m,) after each segment, circular
    lengths = np.stack((rng.permutation(segments[:, 1] - segments[:, 0]), rng.permutation(gaps)), axis=1).ravel()
    laid = np.repeat(np.tile([True, False], len(segments)), lengths)
    return np.roll(laid, int(rng.integers(len(labels))))


def same_share(scores: np.ndarray, n_positive: int) -> np.ndarray:
    """The `n_positive` highest of the scores, bool (V,): random alarms as many as the detector's own."""
    positive = np.zeros(len(scores), bool)
    positive[np.argsort(-scores, kind="stable")[:n_positive]] = True
    return positive
