"""Thresholds from normal data alone, and the alarms a day that they imply on normal data which set no threshold.

Each entity of the training recording is cut in time: the first 90 % trains, the next 5 % sets the threshold (and stops
the training early), the last 5 % counts alarms. Scores of the 90 % set a budget's threshold too, cross-fitted where a
method can afford it: 5 % of two weeks say little about one alarm a day, and nothing about one in ten. A network scores
what trained it a little lower than what comes later; `bench.detection.budget` shows what that costs.

A threshold is for a budget of false alarms a day: the lowest at which, and above which, the normal scores have no more.
Rates that the data are too short to show follow from the highest alarms by Hill's estimator (1975): their peaks' log
scores have an exponential tail.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from edgekd.blocks.step import Scores, StepModule
from edgekd.data.checks import require_length
from edgekd.data.recording import Recording
from edgekd.runtime.episodes import COOLDOWN_HOPS
from edgekd.runtime.errors import RecordingError
from edgekd.runtime.manifest import threshold_at

FIT, CALIBRATE, AUDIT = 0, 1, 2
FIT_SHARE, CALIBRATE_SHARE = 0.9, 0.05
MARGIN = 1.5  # published factor over the largest score seen on normal data


def parts(recording: Recording) -> np.ndarray:
    """int8 (T,): which part of its entity each sample belongs to."""
    part = np.full(len(recording), AUDIT, np.int8)
    for start, end in recording.bounds:
        fit = start + int((end - start) * FIT_SHARE)
        part[start:fit] = FIT
        part[fit : fit + int((end - start) * CALIBRATE_SHARE)] = CALIBRATE
    return part


def require_windows(step: StepModule, recording: Recording) -> None:
    """Raise RecordingError unless windows end in the part that trains and in the part that sets the threshold."""
    require_length(recording, step.warmup_samples)
    ends = [np.arange(start + step.warmup_samples, end + 1, step.hop) - 1 for start, end in step.entities(recording)]
    reached = parts(recording)[np.concatenate(ends)]
    for part, share in ((FIT, f"first {FIT_SHARE:.0%}"), (CALIBRATE, f"next {CALIBRATE_SHARE:.0%}")):
        if not (reached == part).any():
            use = "trains" if part == FIT else "sets the threshold"
            least = max(math.ceil(step.warmup_samples / FIT_SHARE), math.ceil(step.hop / CALIBRATE_SHARE))
            raise RecordingError(
                f"{recording.source or 'recording'}: {len(recording):,} samples are too few: no window of "
                f"{step.warmup_samples} ends in the {share} of them, which {use}; record longer, {least:,} samples at "
                "the very least, two weeks where you can"
            )


RATES = (24, 15, 10, 7, 5, 3, 2, 1.5, 1, 0.7, 0.5, 0.3, 0.2, 0.15, 0.1, 0.07, 0.05, 0.03, 0.02, 0.01)
"""False alarms a day of the points that a file carries."""
FEWEST_ALARMS = 3  # a rate that fewer of the setting scores' alarms show is extrapolated ...
TAIL_ALARMS = 5  # ... from so many of the highest
MOST_ANOMALOUS = 0.1  # share of normal scores above a threshold
EXACT, COARSER = 300, 1.02  # levels are every one of the highest scores, then ever rarer ones


def alarm_lengths(anomalous: np.ndarray, samples: np.ndarray, hop: int) -> np.ndarray:
    """int (E,), in samples: length of each episode, a run of anomalous verdicts (V,) at `samples` (V,), a hop apart."""
    starts = anomalous & ~np.concatenate([[False], anomalous[:-1] & (np.diff(samples) == hop)])
    return np.bincount(np.cumsum(starts)[anomalous])[1:] * hop


def count_alarms(samples: np.ndarray, hop: int, starts: Sequence[int] = (0,)) -> int:
    """How many alarms a device tells at its defaults; see `told_episodes`."""
    return len(told_episodes(samples, hop, starts))


def told_episodes(
    samples: np.ndarray,
    hop: int,
    starts: Sequence[int] = (0,),
    min_hops: int = 0,
    cooldown_hops: int = COOLDOWN_HOPS,
) -> list[tuple[int, int, int]]:
    """The alarms that a device tells for anomalous verdicts at `samples` (A,), ascending: of each the samples of its
    first verdict, of the one with which it is told and of its last.

    As `edgekd.runtime.episodes.Episodes` tells them; entities, which begin at `starts`, have nothing to do with each
    other.
    """
    if not len(samples):
        return []
    entity = np.searchsorted(starts, samples, side="right")
    cuts = np.flatnonzero((np.diff(samples) != hop) | (np.diff(entity) != 0)) + 1
    first = np.concatenate([[0], cuts])
    last = np.concatenate([cuts, [len(samples)]]) - 1
    told: list[tuple[int, int, int]] = []
    quiet_until, where = -1, -1
    for begin, end, owner in zip(samples[first].tolist(), samples[last].tolist(), entity[first].tolist()):
        if owner != where:
            quiet_until, where = -1, owner
        if (at := max(begin + min_hops * hop, quiet_until)) <= end:
            told.append((begin, at, end))
            quiet_until = end + hop + cooldown_hops * hop
    return told


def levels(scores: Scores, hop: int, most: int, starts: Sequence[int] = (0,)) -> np.ndarray:
    """float64 (J,), falling: item j is the lowest threshold at which, and above which, there are at most j alarms.

    No more than `most` + 1 of them, fewer where the scores have fewer alarms. The last is where a tenth of the scores
    lies above it: below that alarms become one that never ends.
    """
    order = np.argsort(-scores.scores, kind="stable")
    deepest = min(max(TAIL_ALARMS, math.ceil(MOST_ANOMALOUS * len(order))), len(order) - 1)
    falling = scores.scores[order].astype(np.float64)
    found: list[float] = []
    k, before = 0, falling[0]
    while k < deepest and len(found) <= most:
        k = min(k + 1 if k < EXACT else math.ceil(k * COARSER), deepest)
        alarms = count_alarms(scores.samples[np.sort(order[:k])], hop, starts)
        found += [before] * (alarms - len(found))
        before = falling[k]
    return np.array([*found, before])[: most + 1]


def thresholds(scores: Scores, days: float, hop: int, starts: Sequence[int] = (0,)) -> np.ndarray:
    """float64 (R,), rising: the threshold for each of RATES, from normal scores (V > 0) that cover `days`."""
    found = levels(scores, hop, max(math.ceil(RATES[0] * days), TAIL_ALARMS), starts)
    tail = found[: TAIL_ALARMS + 1]
    positive = bool((tail > 0).all())
    scale = np.log(tail) if positive else tail
    lowest, n = scale[-1], max(len(tail) - 1, 1)
    slope = float(np.mean(scale[:n] - lowest))
    wanted = []
    for rate in RATES:
        alarms = rate * days
        if alarms >= FEWEST_ALARMS:
            wanted.append(float(found[min(int(alarms), len(found) - 1)]))
        else:  # no farther above the highest than that is above the lowest: short data know no more
            at = min(lowest + slope * max(math.log(n / alarms), 0.0), 2 * scale[0] - lowest)
            wanted.append(math.exp(at) if positive else float(at))
    return np.maximum.accumulate(wanted)


def calibrate(
    scores: Scores,
    recording: Recording,
    hop: int,
    false_alarm_rate: float | None = None,
    *,
    per_day: float | None = 1.0,
    cross_fitted: bool = True,
) -> dict[str, Any]:
    """Threshold of a detector from its scores on its own training recording, as the manifest states it.

    scores: all but those of the last part set it. cross_fitted: whether those of the first did not train, either.

    false_alarm_rate: set the threshold so that this share of the normal scores lies above it, as for images, which
    have no clock and so no alarms a day.
    per_day: budget of false alarms; None takes the published margin over the largest score.
    Raises RecordingError where no score falls into the part that sets it, UsageError for a budget out of range.
    Items of `points` are rate, threshold, and the alarms that were counted at it on the part that set nothing.
    """
    part = parts(recording)[scores.samples]
    setting = _chosen(scores, part != AUDIT)
    if not len(setting.scores):
        raise RecordingError(f"{recording.source}: no score in the part that sets the threshold; record longer")
    audit = _chosen(scores, part == AUDIT)
    if false_alarm_rate is not None:
        return _quantile_threshold(setting.scores, audit.scores, recording.source, false_alarm_rate)
    data = f"{recording.source}: the {CALIBRATE_SHARE:.0%} of each entity after the first {FIT_SHARE:.0%}"
    if (part == FIT).any():
        data = f"{recording.source}: the first {FIT_SHARE + CALIBRATE_SHARE:.0%} of each entity, "
        data += "cross-fitted" if cross_fitted else f"of which the first {FIT_SHARE:.0%} trained the detector"
    day = hop * recording.period_s / 86400.0  # of one verdict
    days = len(setting.scores) * day
    found = thresholds(setting, days, hop, recording.starts)
    points = tuple(zip(map(float, RATES), found.tolist()))

    def alarms(value: float) -> int:
        return count_alarms(audit.samples[audit.scores > value], hop, recording.starts)

    if per_day is None:
        value = float(MARGIN * setting.scores.max())
        rule = f"{MARGIN} x the largest of {len(setting.scores)} scores on normal data that did not train"
    else:
        value = threshold_at(points, per_day)
        rule = f"{budget_in_words(per_day)}, by {len(setting.scores)} scores on normal data"
        rule += f"; extrapolated from {days:.2g} days" if per_day * days < FEWEST_ALARMS else ""
    return {
        "value": value,
        "rule": rule,
        "data": data,
        "alarms_per_day": counted(alarms(value), len(audit.scores) * day),
        "points": [[rate, threshold, alarms(threshold)] for rate, threshold in points],
    }


def budget_in_words(per_day: float) -> str:
    """What a threshold is for."""
    return f"for {per_day:g} false alarm{'s' * (per_day != 1)} a day"


def counted(alarms: int, days: float) -> dict[str, Any]:
    """Alarms a day, measured over `days` of normal data that set nothing, and their upper 95 % bound."""
    from scipy.stats import chi2

    # exact upper bound of a Poisson rate (Garwood 1936)
    upper = float(chi2.ppf(0.95, 2 * (alarms + 1)) / 2)
    return {"measured": alarms / days if days else 0.0, "upper95": upper / days if days else None, "days": days}


def unseen(own: Scores, normal: Scores | None) -> Scores:
    """Scores of what did not train, `own`, with cross-fitted ones in their place where there are some, and before."""
    if normal is None:
        return own
    rest = _chosen(own, ~np.isin(own.samples, normal.samples))
    order = np.argsort(np.concatenate([normal.samples, rest.samples]), kind="stable")
    return Scores(
        np.concatenate([normal.samples, rest.samples])[order],
        np.concatenate([normal.scores, rest.scores])[order],
        np.concatenate([normal.contributions, rest.contributions])[order],
    )


def _chosen(scores: Scores, mask: np.ndarray) -> Scores:
    return Scores(scores.samples[mask], scores.scores[mask], scores.contributions[mask])


def evidence(scores: Scores, recording: Recording, hop: int, threshold: float) -> dict[str, Any]:
    """What else to judge a threshold by: how many scores set it, and how long the longest of its alarms lasted.

    scores: those that `calibrate` was given.
    """
    part = parts(recording)[scores.samples]
    audit = part == AUDIT
    lengths = alarm_lengths(scores.scores[audit] > threshold, scores.samples[audit], hop)
    return {
        "threshold_scores": int((~audit).sum()),
        "longest_alarm_s": float(lengths.max(initial=0) * recording.period_s),
    }


def _quantile_threshold(setting: np.ndarray, audit: np.ndarray, source: str, rate: float) -> dict[str, Any]:
    """The threshold that `rate` of the scores `setting` (V,) lie above; `audit` (W,) did not set it."""
    threshold = float(np.quantile(setting, 1.0 - rate))
    above = f"; {(audit > threshold).mean():.1%} of {len(audit)} others lie above" if len(audit) else ""
    return {
        "value": threshold,
        "rule": f"the {1.0 - rate:.4g} quantile of {len(setting)} scores on normal data that did not train{above}",
        "data": f"{source}: the {CALIBRATE_SHARE:.0%} after the first {FIT_SHARE:.0%}",
        "alarms_per_day": {"measured": 0.0, "upper95": None, "days": 0.0},
    }
