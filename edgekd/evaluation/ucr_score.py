"""The UCR archive's own question: where is the one anomaly? Right where the highest score lies near enough to it.

Source: Wu and Keogh, "Current time series anomaly detection benchmarks are flawed and are creating the illusion of
progress" (TKDE 2021), and the public code of AnomalyLLM (arXiv 2401.15123) for the second of the two rules.
"""

from __future__ import annotations

import numpy as np

SLACK = 100  # points on either side of the anomaly that count as found, at least
MOST_TIES = 10  # windows; where more share the highest score, nothing is pointed at


def ucr_strict(samples: np.ndarray, scores: np.ndarray, hop: int, begin: int, end: int) -> bool:
    """The archive's convention: the middle of the points that the highest verdict speaks for lies within
    max(length, 100) points of the anomaly [begin, end].

    samples: int (V,), newest sample of each verdict; scores: float (V,); begin, end: first and last anomalous sample.
    """
    return bool(near_enough(samples, hop, begin, end)[int(np.argmax(scores))])


def near_enough(samples: np.ndarray, hop: int, begin: int, end: int) -> np.ndarray:
    """Which verdicts are right if theirs is the highest score, bool (V,); their part is what random scores find."""
    location = samples - (hop - 1) / 2
    slack = max(end - begin + 1, SLACK)
    return (begin - slack < location) & (location < end + slack)


def ucr_reference(samples: np.ndarray, scores: np.ndarray, hop: int, begin: int, end: int) -> bool:
    """The rule of AnomalyLLM's public code, more lenient: it accepts about length + 300 points on each side.

    Labels are widened by 100 points, a window is anomalous if one of its `hop` newest points is, and the highest window
    is right within max(anomalous windows, 100 / hop) windows of those. Same arguments as `ucr_strict`.
    """
    if np.sum(scores == scores.max()) > MOST_TIES:
        return False
    touched = np.flatnonzero((samples >= begin - SLACK) & (samples - hop + 1 <= end + SLACK))
    if not len(touched):
        return False
    first, last = touched[0], touched[-1]
    slack = max(last - first, SLACK / hop)
    return bool(first - slack <= int(np.argmax(scores)) <= last + slack)
