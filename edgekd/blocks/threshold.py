"""Thresholds from normal data alone, and the alarms a day that they imply on normal data which set no threshold.

Each entity of the training recording is cut in time: the first 90 % trains, the next 5 % sets the threshold (and stops
the training early), the last 5 % counts alarms.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from edgekd.blocks.step import Scores, StepModule
from edgekd.data.checks import require_length
from edgekd.data.recording import Recording
from edgekd.runtime.errors import RecordingError

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


def alarm_lengths(anomalous: np.ndarray, samples: np.ndarray, hop: int) -> np.ndarray:
    """int (E,), in samples: length of each episode, a run of anomalous verdicts (V,) at `samples` (V,), a hop apart."""
    starts = anomalous & ~np.concatenate([[False], anomalous[:-1] & (np.diff(samples) == hop)])
    return np.bincount(np.cumsum(starts)[anomalous])[1:] * hop


def calibrate(scores: Scores, recording: Recording, hop: int, false_alarm_rate: float | None = None) -> dict[str, Any]:
    """Threshold of a detector from its scores on its own training recording, as the manifest states it.

    false_alarm_rate: set the threshold so that this share of the normal scores lies above it, as for images, which
    have no clock and so no alarms a day; None takes the margin over the largest.
    Raises RecordingError where no score falls into the part that sets it.
    """
    from scipy.stats import chi2

    part = parts(recording)[scores.samples]
    setting = scores.scores[part == CALIBRATE]
    if not len(setting):
        raise RecordingError(f"{recording.source}: no score in the part that sets the threshold; record longer")
    audit = part == AUDIT
    if false_alarm_rate is not None:
        return _quantile_threshold(setting, scores.scores[audit], recording.source, false_alarm_rate)
    threshold = float(MARGIN * setting.max())
    days = float(audit.sum() * hop * recording.period_s / 86400.0)
    alarms = len(alarm_lengths(scores.scores[audit] > threshold, scores.samples[audit], hop))
    # exact upper bound of a Poisson rate (Garwood 1936)
    upper = float(chi2.ppf(0.95, 2 * (alarms + 1)) / 2)
    return {
        "value": threshold,
        "rule": f"{MARGIN} x the largest of {len(setting)} scores on normal data that did not train",
        "data": f"{recording.source}: the {CALIBRATE_SHARE:.0%} of each entity after the first {FIT_SHARE:.0%}",
        "alarms_per_day": {
            "measured": alarms / days if days else 0.0,
            "upper95": upper / days if days else None,
            "days": days,
        },
    }


def evidence(scores: Scores, recording: Recording, hop: int, threshold: float) -> dict[str, Any]:
    """What else to judge a threshold by: how many scores set it, and how long the longest of its alarms lasted."""
    part = parts(recording)[scores.samples]
    audit = part == AUDIT
    lengths = alarm_lengths(scores.scores[audit] > threshold, scores.samples[audit], hop)
    return {
        "threshold_scores": int((part == CALIBRATE).sum()),
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
