"""From verdicts to points, events and alarms.

A verdict speaks for the `hop` newest samples that it has seen. An event is a labeled segment; an alarm is a run of
positive verdicts. Neither crosses the boundary between two entities (`Recording.starts`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgekd.runtime.errors import UsageError

SECONDS_PER_DAY = 86_400.0


def runs(mask: np.ndarray, starts: Sequence[int] = (0,)) -> np.ndarray:
    """Runs of True, cut at every entity start.

    mask: bool (T,). Returns int64 (m, 2), [begin, end) of each run, ascending.
    """
    mask = np.asarray(mask, bool)
    change = np.diff(np.concatenate(([False], mask, [False])).astype(np.int8))
    begins = np.flatnonzero(change == 1)
    ends = np.flatnonzero(change == -1)
    cuts = np.asarray([s for s in starts if 0 < s < len(mask) and mask[s - 1] and mask[s]], np.int64)
    begins = np.sort(np.concatenate((begins, cuts)))
    ends = np.sort(np.concatenate((ends, cuts)))
    return np.stack((begins, ends), axis=1).astype(np.int64)


def check_verdicts(samples: np.ndarray, scores: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Verdicts as int64 (V,) and float64 (V,), or UsageError where they cannot belong to `length` samples."""
    samples = np.asarray(samples, np.int64)
    scores = np.asarray(scores, np.float64)
    if samples.ndim != 1 or samples.shape != scores.shape:
        raise UsageError(f"verdicts: {samples.shape} samples and {scores.shape} scores; one score for each is needed")
    if len(samples) == 0:
        raise UsageError(
            "no verdicts: every entity of the recording is shorter than the model's warm-up; give a longer one"
        )
    if samples[0] < 0 or samples[-1] >= length or np.any(np.diff(samples) <= 0):
        raise UsageError(f"verdicts: sample indices must ascend within [0, {length})")
    if not np.all(np.isfinite(scores)):
        at = int(samples[np.flatnonzero(~np.isfinite(scores))[0]])
        raise UsageError(f"verdicts: the score at sample {at} is not finite; the model or its input is broken")
    return samples, scores


def verdict_points(samples: np.ndarray, hop: int, length: int, starts: Sequence[int] = (0,)) -> np.ndarray:
    """Which verdict speaks for each point.

    samples: int (V,), newest sample of each verdict. Returns int64 (T,), index of the verdict, -1 where there is none
    (before an entity's first verdict, after its last whole hop). Where two overlap the later one counts.
    """
    owner = np.full(length, -1, np.int64)
    entity = np.asarray(starts, np.int64)[np.searchsorted(starts, samples, side="right") - 1]  # (V,) its first sample
    for back in range(hop):
        points = samples - back
        inside = points >= entity
        owner[points[inside]] = np.maximum(owner[points[inside]], np.flatnonzero(inside))
    return owner


def point_scores(
    samples: np.ndarray, scores: np.ndarray, hop: int, length: int, starts: Sequence[int] = (0,)
) -> tuple[np.ndarray, np.ndarray]:
    """Write each verdict's score to its `hop` newest points.

    samples: int (V,), scores: float (V,). Returns float64 (T,) and bool (T,): the scores, and where there is one.
    Points without a verdict get a value just below the lowest score, so that they rank last and never alarm.
    """
    samples, scores = check_verdicts(samples, scores, length)
    owner = verdict_points(samples, hop, length, starts)
    scored = owner >= 0
    return np.where(scored, scores[owner], np.nextafter(scores.min(), -np.inf)), scored


@dataclass(frozen=True)
class Events:
    """What became of each labeled segment at one threshold."""

    segments: np.ndarray
    """int64 (m, 2), [begin, end) in samples."""
    alarms: np.ndarray
    """int64 (m,), sample of the first positive verdict that speaks for a point of the segment; -1 = missed."""

    @property
    def detected(self) -> np.ndarray:
        """bool (m,)"""
        return self.alarms >= 0

    @property
    def recall(self) -> float:
        """Detected events over all events; NaN without events."""
        return float(self.detected.mean()) if len(self.segments) else float("nan")

    @property
    def delays(self) -> np.ndarray:
        """int64 (detected,), samples from an event's first point to the verdict that told of it.

        The verdict's own sample counts, not the oldest point it speaks for: nobody can be told earlier than that.
        """
        return (self.alarms - self.segments[:, 0])[self.detected]


def find_events(
    labels: np.ndarray, samples: np.ndarray, positive: np.ndarray, hop: int, starts: Sequence[int] = (0,)
) -> Events:
    """Events and the verdicts that found them.

    labels: bool (T,); samples: int (V,); positive: bool (V,), the verdicts above the threshold.
    """
    segments = runs(labels, starts)
    if not len(segments):
        return Events(segments, np.empty(0, np.int64))
    samples, positive = np.asarray(samples, np.int64), np.asarray(positive, bool)
    owner = verdict_points(samples, hop, len(labels), starts)
    never = len(samples)
    telling = np.where(
        (owner >= 0) & positive[owner], owner, never
    )  # (T,) the positive verdict that speaks for a point
    first = np.minimum.reduceat(np.append(telling, never), segments.ravel())[::2]  # (m,)
    return Events(segments, np.append(samples, -1)[first])


@dataclass(frozen=True)
class Alarms:
    """Alarm episodes in normal time."""

    episodes: int
    """Runs of positive verdicts in normal time. A labeled segment or an entity boundary ends a run."""
    trailing: int
    """Of these, the ones that only outlast an event that was found: they go on from a positive verdict inside it."""
    normal_days: float
    """Normal time that was watched, in days."""
    normal_share: float
    """Part of that time spent in alarm; a detector that is always on has few episodes, and this tells."""

    @property
    def per_day(self) -> float:
        """Episodes per day of normal time; NaN without normal time."""
        return self.episodes / self.normal_days if self.normal_days else float("nan")


def false_alarms(
    labels: np.ndarray | None,
    samples: np.ndarray,
    positive: np.ndarray,
    hop: int,
    period_s: float,
    length: int,
    starts: Sequence[int] = (0,),
) -> Alarms:
    """Alarm episodes outside labeled segments; with labels None all time counts as normal.

    labels: bool (T,) or None; samples: int (V,); positive: bool (V,). Points without a verdict are not watched.
    A verdict that speaks for a labeled point too is neither normal nor false.
    """
    samples, positive = np.asarray(samples, np.int64), np.asarray(positive, bool)
    owner = verdict_points(samples, hop, length, starts)
    watched = owner >= 0
    anomalous = np.zeros(length, bool) if labels is None else np.asarray(labels, bool)
    touching = np.zeros(len(samples), bool)
    touching[owner[watched & anomalous]] = True
    normal_point = watched & ~touching[owner]
    alarm_point = normal_point & positive[owner]
    episodes = runs(alarm_point, starts)
    before = episodes[:, 0] - 1  # the point before each episode, of the same entity unless the episode starts one
    inner = (before >= 0) & ~np.isin(episodes[:, 0], starts)
    previous = owner[before[inner]]
    trailing = int(np.sum((previous >= 0) & touching[previous] & positive[previous]))
    n_normal = int(normal_point.sum())
    return Alarms(
        episodes=len(episodes),
        trailing=trailing,
        normal_days=n_normal * period_s / SECONDS_PER_DAY,
        normal_share=float(alarm_point.sum() / n_normal) if n_normal else float("nan"),
    )
