"""Volume under the surface: detection quality over every threshold and every tolerance for a late or early alarm.

Paparrizos, Boniol, Palpanas, Tsay, Elmore, Franklin: Volume Under the Surface, PVLDB 15(11), 2022. Each labeled segment
is widened by a buffer of `w // 2` points on either side whose label falls off as sqrt(1 - distance / w); precision,
recall (times the share of segments that were touched at all) and false-positive rate are taken at 250 thresholds; the
volume is the mean, over w = 0 ... max_buffer, of the area under the curve.

The definition is that of `generate_curve(..., version="opt")` in TSB-AD 1.5 (equally vus 0.0.6), and the tests hold
this module to values that it gave. It is written anew because TSB-AD pins NumPy below 2 and brings 15 packages, vus
brings TensorFlow, aeon (which takes trapezoids under the precision curve, so other values) brings numba; and because
they build every labeling and every prediction in full, 101 x 250 times: 7 s for 24,000 points, over a minute for
430,000. Only points within reach of a segment ever differ between two buffers, so sums over those points are enough.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgekd.evaluation.events import runs
from edgekd.runtime.errors import UsageError

N_THRESHOLDS = 250  # of the definition: taken at equal steps of the sorted scores


def vus_pr(labels: np.ndarray, scores: np.ndarray, max_buffer: int = 100, starts: Sequence[int] = (0,)) -> float:
    """Volume under the precision-recall surface, in [0, 1].

    labels: bool (T,); scores: float (T,), higher = more anomalous; max_buffer: widest buffer, in points.
    starts: first point of each entity; neither a segment nor its buffer crosses one (the published code knows none).
    Raises UsageError where labels are all equal or a score is not finite.
    """
    return vus(labels, scores, max_buffer, starts)[0]


def vus_roc(labels: np.ndarray, scores: np.ndarray, max_buffer: int = 100, starts: Sequence[int] = (0,)) -> float:
    """Volume under the ROC surface; arguments as for `vus_pr`. Flattering where anomalies are rare."""
    return vus(labels, scores, max_buffer, starts)[1]


def vus(
    labels: np.ndarray, scores: np.ndarray, max_buffer: int = 100, starts: Sequence[int] = (0,)
) -> tuple[float, float]:
    """(VUS-PR, VUS-ROC) in one pass; arguments as for `vus_pr`."""
    labels, scores = check_points(labels, scores)
    n, n_positive = len(labels), int(labels.sum())
    segments = runs(labels, starts)
    falling = -np.sort(-scores)
    thresholds = falling[np.linspace(0, n - 1, N_THRESHOLDS).astype(int)]  # (K,), falling
    # a point is predicted at threshold k and all later ones; so sums over predictions are running sums over this
    first = np.searchsorted(-thresholds, -scores, side="left")  # (T,)
    n_predicted = n - np.searchsorted(falling[::-1], thresholds, side="left")  # (K,)
    hits = _running_sum(first[labels])  # (K,) labeled points predicted
    reach = _Reach(labels, segments, starts, max_buffer // 2)

    areas = np.empty((max_buffer + 1, 2))
    for buffer in range(max_buffer + 1):
        points, weights = reach.weights(buffer)
        near = _running_sum(first[points], weights)  # (K,) soft labels of the predicted buffer points
        true = hits + near
        positives = n_positive + near / 2  # of the definition: halfway between hard and soft labels
        recall = np.minimum(true / positives, 1.0) * _share_touched(segments, first, reach, buffer // 2)
        false_rate = (n_predicted - true) / (n - positives)
        areas[buffer] = _areas(recall, false_rate, true / n_predicted)
    pr, roc = areas.mean(axis=0)
    return float(pr), float(roc)


def check_points(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels as bool (T,), scores as float64 (T,), or UsageError where no ranking measure is defined on them."""
    labels, scores = np.asarray(labels, bool), np.asarray(scores, np.float64)
    if labels.ndim != 1 or labels.shape != scores.shape:
        raise UsageError(f"{labels.shape} labels and {scores.shape} scores; one score for each point is needed")
    if labels.all() or not labels.any():
        raise UsageError("every point has the same label; a measure of detection needs normal and anomalous ones")
    if not np.all(np.isfinite(scores)):
        raise UsageError(f"score {int(np.flatnonzero(~np.isfinite(scores))[0])} is not finite")
    return labels, scores


def _running_sum(first: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """(K,) sum of the weights (or number) of the points that are predicted at each threshold."""
    return np.cumsum(np.bincount(first, weights, minlength=N_THRESHOLDS))


def _areas(recall: np.ndarray, false_rate: np.ndarray, precision: np.ndarray) -> tuple[float, float]:
    """Area under the precision-recall curve (right-hand steps) and under the ROC curve (trapezoids), each (K,)."""
    pr = np.dot(np.diff(recall, prepend=0.0), precision)
    x = np.concatenate(([0.0], false_rate, [1.0]))
    y = np.concatenate(([0.0], recall, [1.0]))
    return float(pr), float(np.dot(np.diff(x), (y[1:] + y[:-1]) / 2))


class _Reach:
    """The unlabeled points within `half` points of a segment of their entity, with their distances."""

    def __init__(self, labels: np.ndarray, segments: np.ndarray, starts: Sequence[int], half: int) -> None:
        bounds = np.append(np.asarray(starts, np.int64), len(labels))
        entity = np.searchsorted(bounds, segments[:, 0], side="right") - 1
        self.lows, self.highs = bounds[entity], bounds[entity + 1]  # (m,) each segment's entity
        steps = np.arange(1, half + 1)[:, None]
        before = segments[None, :, 0] - steps  # (half, m)
        after = segments[None, :, 1] - 1 + steps
        inside = np.concatenate((before >= self.lows, after < self.highs), axis=1)  # (half, 2m)
        points = np.concatenate((before, after), axis=1)
        inside &= ~labels[np.where(inside, points, 0)]
        self._distances = np.broadcast_to(steps, points.shape)[inside]  # ascending: rows come in order
        self._points, self._index = np.unique(points[inside], return_inverse=True)

    def weights(self, buffer: int) -> tuple[np.ndarray, np.ndarray]:
        """Points, and their labels in (0, 1], for this buffer; those of two close segments add up, to 1 at most."""
        near = np.searchsorted(self._distances, buffer // 2, side="right")
        fall = np.sqrt(1 - self._distances[:near] / max(buffer, 1))
        total = np.bincount(self._index[:near], fall, minlength=len(self._points))
        return self._points, np.minimum(total, 1.0)


def _share_touched(segments: np.ndarray, first: np.ndarray, reach: _Reach, half: int) -> np.ndarray:
    """(K,) share of the widened segments with a predicted point; segments whose buffers meet count as one."""
    begins = np.maximum(segments[:, 0] - half, reach.lows)
    ends = np.minimum(segments[:, 1] + half, reach.highs)
    apart = ends[:-1] <= begins[1:]
    begins = begins[np.concatenate(([True], apart))]
    ends = ends[np.concatenate((apart, [True]))]
    earliest = np.minimum.reduceat(np.append(first, N_THRESHOLDS), np.stack((begins, ends), axis=1).ravel())[::2]
    return _running_sum(earliest) / len(begins)
