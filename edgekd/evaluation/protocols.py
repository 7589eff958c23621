"""Several protocols on the same verdicts, side by side: the published one, and those that choose nothing by the labels.

The published one is point adjustment over the whole set as one stream, with the threshold that is best on the test
labels. The others are ranking measures and event recall at a stated rate of false alarms, over all entities together
and as the mean over those that have anomalies: pooled figures of unrelated entities reward knowing the entity.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from edgekd.data.recording import Recording
from edgekd.evaluation.chance import random_scores
from edgekd.evaluation.events import SECONDS_PER_DAY, false_alarms, find_events, point_scores, verdict_points
from edgekd.evaluation.metrics import BestPointAdjusted, auc_pr, point_adjusted, vus_pr
from edgekd.runtime.errors import UsageError

PER_DAY = 1.0  # false alarms a day at which event recall is taken


def protocols(
    recording: Recording, samples: np.ndarray, scores: np.ndarray, hop: int, threshold: float | None = None
) -> dict[str, float]:
    """Every figure of one detector's continuous scores on a labeled recording.

    samples: int (V,), newest sample of each verdict, ascending; scores: float (V,), higher is stranger; each speaks for
    its `hop` newest points, points without a verdict rank last. threshold: from normal data, an alarm lies above it;
    with None the figures at it are left out. Keys:
      pa_f1_best            point-adjusted F1 of the best threshold on the test labels, all entities as one stream
      pa_f1                 the same at `threshold`
      event_recall, false_alarms_per_day                               at `threshold`
      vus_pr, auc_pr, event_recall_at_1_per_day                        pooled
      entity_vus_pr, entity_auc_pr, entity_event_recall_at_1_per_day   mean over entities with anomalies
    Raises UsageError where there are no labels, or none of one kind.
    """
    labels = recording.labels
    if labels is None:
        raise UsageError(f"{recording.source}: no labels to evaluate on; give a labeled recording")
    length, starts, period = len(recording), recording.starts, recording.period_s
    stream, _ = point_scores(samples, scores, hop, length)
    points, _ = point_scores(samples, scores, hop, length, starts)

    def recall(labels: np.ndarray, samples: np.ndarray, scores: np.ndarray, starts: Sequence[int]) -> float:
        """Share of the events that are found before false alarms become more than PER_DAY; the labels say what time is
        normal, so this is a point on a curve and no promise."""
        level = threshold_at_rate(labels, samples, scores, hop, period, starts)
        return find_events(labels, samples, scores > level, hop, starts).recall

    figures = {"pa_f1_best": BestPointAdjusted(labels, stream).f1()}
    if threshold is not None:
        positive = scores > threshold
        figures["pa_f1"] = point_adjusted(labels, stream > threshold).f1
        figures["event_recall"] = find_events(labels, samples, positive, hop, starts).recall
        alarms = false_alarms(labels, samples, positive, hop, period, length, starts)
        figures["false_alarms_per_day"] = alarms.per_day
    figures["vus_pr"] = vus_pr(labels, points, starts=starts)
    figures["auc_pr"] = auc_pr(labels, points)
    figures["event_recall_at_1_per_day"] = recall(labels, samples, scores, starts)
    each = []
    for start, end in recording.bounds:
        own = labels[start:end]
        if own.any() and not own.all():
            inside = (samples >= start) & (samples < end)
            found = recall(own, samples[inside] - start, scores[inside], (0,))
            each.append((vus_pr(own, points[start:end]), auc_pr(own, points[start:end]), found))
    means = np.mean(each, axis=0)
    names = ("entity_vus_pr", "entity_auc_pr", "entity_event_recall_at_1_per_day")
    return figures | {name: float(mean) for name, mean in zip(names, means)}


def by_chance(recording: Recording, samples: np.ndarray, hop: int, draws: int = 20) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation (n - 1) of every figure that needs no threshold, of uniform random scores for the
    same verdicts under the same searches."""
    found = [protocols(recording, samples, random_scores(len(samples), draw), hop) for draw in range(draws)]
    columns = {key: np.array([figures[key] for figures in found]) for key in found[0]}
    return {key: (float(column.mean()), float(column.std(ddof=1))) for key, column in columns.items()}


def threshold_at_rate(
    labels: np.ndarray,
    samples: np.ndarray,
    scores: np.ndarray,
    hop: int,
    period_s: float,
    starts: Sequence[int] = (0,),
    per_day: float = PER_DAY,
) -> float:
    """Lowest threshold such that it and all higher ones have at most `per_day` alarm episodes a day of normal time.

    Not simply the lowest: a detector that is always on has one long episode. Episodes are those of `false_alarms`; an
    alarm lies above the threshold. Returns -inf where no threshold has more.
    """
    owner = verdict_points(samples, hop, len(labels), starts)
    watched = owner >= 0
    touching = np.zeros(len(samples), bool)
    touching[owner[watched & labels]] = True
    normal = watched & ~touching[owner]  # (T,)
    days = normal.sum() * period_s / SECONDS_PER_DAY
    # positive verdicts less the neighbors that are both positive: the number of runs, at all thresholds at once
    alone = scores[np.unique(owner[normal])]
    joined = normal[:-1] & normal[1:] & (owner[:-1] != owner[1:])
    joined[[start - 1 for start in starts if start > 0]] = False
    both = np.minimum(scores[owner[:-1][joined]], scores[owner[1:][joined]])
    levels = np.unique(alone)
    episodes = _at_or_above(alone, levels) - _at_or_above(both, levels)
    over = np.flatnonzero(episodes > per_day * days)
    return float(levels[over[-1]]) if len(over) else -math.inf


def _at_or_above(values: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """(L,) how many values reach each level."""
    return len(values) - np.searchsorted(np.sort(values), levels, side="left")
