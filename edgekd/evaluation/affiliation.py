"""Affiliation precision and recall: how near predictions lie to the events, against what chance would give.

Source: Huet, Navarro and Rossi, "Local evaluation of time series anomaly detection algorithms" (KDD 2022). The line of
time is shared out among the events, each point to the nearest. A predicted point is worth the part of the event's zone
that lies no nearer to the event than it does; a point of an event, the part of the zone that is no nearer to that point
than the nearest prediction. The paper integrates over time, this sums over samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from edgekd.evaluation.events import point_scores, runs

SEARCHED = np.linspace(0.997, 0.99999, 300)
"""Quantiles of the test scores that AnomalyLLM's public code tries as thresholds."""


def affiliation(labels: np.ndarray, positive: np.ndarray, starts: Sequence[int] = (0,)) -> tuple[float, float, float]:
    """Affiliation precision, recall and their harmonic mean, each in [0, 1].

    labels, positive: bool (T,); zones end at entity starts. Precision is the mean over the events in whose zone
    something was predicted, NaN where nothing was; recall is the mean over all events, NaN without one. Random
    predictions reach about .5 of precision and, when there are many, a recall near 1: read it beside them.
    """
    labels, positive = np.asarray(labels, bool), np.asarray(positive, bool)
    precisions, recalls = [], []
    for (begin, end), (low, high) in zones(labels, starts):
        predicted = low + np.flatnonzero(positive[low:high])
        if not len(predicted):
            recalls.append(0.0)
            continue
        precisions.append(_precision(predicted, begin, end, low, high))
        recalls.append(_recall(predicted, begin, end, low, high))
    if not recalls:
        return (float("nan"),) * 3
    precision = float(np.mean(precisions)) if precisions else float("nan")
    recall = float(np.mean(recalls))
    total = precision + recall
    return precision, recall, 2 * precision * recall / total if precisions and total else 0.0


def best_affiliation(
    labels: np.ndarray, samples: np.ndarray, scores: np.ndarray, hop: int, starts: Sequence[int] = (0,)
) -> tuple[float, float, float]:
    """Affiliation precision, recall and F1 at the threshold of SEARCHED that is best on these very labels.

    samples: int (V,), newest sample of each verdict; scores: float (V,). For the comparison with published tables only;
    few alarms are enough for a high figure: read that of random scores beside it.
    """
    thresholds = np.quantile(scores, SEARCHED)
    above = len(scores) - np.searchsorted(np.sort(scores), thresholds, side="right")
    found = []
    for threshold in thresholds[np.unique(above, return_index=True)[1]]:
        points, _ = point_scores(samples, (scores > threshold).astype(float), hop, len(labels), starts)
        found.append(affiliation(labels, points > 0.5, starts))
    return max(found, key=lambda one: one[2])


def zones(labels: np.ndarray, starts: Sequence[int] = (0,)) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """[begin, end) of each event, and of the points that are nearer to it than to another one of its entity."""
    segments = runs(labels, starts)
    found = []
    for low, high in pairwise([*starts, len(labels)]):
        own = segments[(segments[:, 0] >= low) & (segments[:, 1] <= high)]
        # halfway between the end of one and the beginning of the next
        cuts = [low, *((own[:-1, 1] + own[1:, 0]) // 2), high]
        found += [((int(b), int(e)), (int(x), int(y))) for (b, e), x, y in zip(own, cuts, cuts[1:])]
    return found


def _precision(predicted: np.ndarray, begin: int, end: int, low: int, high: int) -> float:
    """Mean over predicted points of the share of the zone that is as far from the event, or farther."""
    away = np.sort(_distance(np.arange(low, high), begin, end))
    nearer = np.searchsorted(away, _distance(predicted, begin, end), side="left")
    return float(np.mean(1.0 - nearer / len(away)))


def _recall(predicted: np.ndarray, begin: int, end: int, low: int, high: int) -> float:
    """Mean over the event's points of the share of the zone that is as far from the point as the prediction."""
    points = np.arange(begin, end)
    after = np.searchsorted(predicted, points)
    right = np.where(after < len(predicted), predicted[np.minimum(after, len(predicted) - 1)] - points, high - low)
    left = np.where(after > 0, points - predicted[np.maximum(after - 1, 0)], high - low)
    away = np.minimum(left, right)
    nearer = np.where(
        away > 0, np.minimum(points - low, away - 1) + np.minimum(high - 1 - points, away - 1) + 1, 0
    )  # points of the zone at less than that distance
    return float(np.mean(1.0 - nearer / (high - low)))


def _distance(points: np.ndarray, begin: int, end: int) -> np.ndarray:
    return np.maximum(0, np.maximum(begin - points, points - (end - 1)))
