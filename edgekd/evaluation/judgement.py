"""What a detector is worth on a recording: faults found, false alarms, and whether chance or a yardstick does as well.

A fault, a labeled segment, is found where a verdict above the threshold speaks for a sample of it, or a slow alarm or
a stuck sensor is told during it.

Chance is the detector's own alarms, as many and as long, against the faults laid out anew at random times.

The yardstick is a Mahalanobis distance (`--preset mahalanobis`). A checkpoint carries normal samples of its training:
it is fitted on those. An exported file carries none: it is fitted on the recording's own beginning, up to the first
label, which favors it, since it has seen these very days. Its threshold is favored too: the lowest one at which it has
no more false alarms on this recording than the detector. So a detector that finds more is better.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from edgekd.blocks.step import Scores
from edgekd.blocks.threshold import count_alarms, levels
from edgekd.evaluation.alarms import KINDS, SCORE, Alarm, alarms_told, first_told
from edgekd.evaluation.budget import normal_verdicts
from edgekd.evaluation.chance import relaid_labels
from edgekd.evaluation.events import SECONDS_PER_DAY, find_events, runs
from edgekd.evaluation.score_model import ModelScores
from edgekd.runtime.errors import RecordingError

N_CHANCE = 200
LUCK = 0.05
"""Probability from which a difference may be luck."""
FEWEST_FAULTS = 5
"""Of fewer, finding all where another finds none may be luck: 1 in 16 by a sign test on four."""
LEAST_BEGINNING = 500  # samples of a recording to fit a yardstick on

FEW, CHANCE, YARDSTICK = "too few faults", "no better than chance", "no better than a Mahalanobis distance"
OPEN, UNCOMPARED, GOOD = "better than chance, too few faults for more", "better than chance, not compared", "good"


@dataclass(frozen=True)
class Yardstick:
    """What a Mahalanobis distance finds at as many false alarms."""

    fitted_on: str
    """In words."""
    found: int
    missed_here: int
    """Faults that it finds and the detector does not."""
    missed_there: int
    """Faults that the detector finds and it does not."""


@dataclass(frozen=True)
class Judgement:
    """What a plant is told of a detector."""

    faults: int | None
    """None without labels."""
    found_by: dict[str, int]
    """Faults by the first of KINDS that finds them."""
    missed: tuple[tuple[int, int], ...]
    """[begin, end) in samples."""
    by_chance: float
    """Faults found by chance, the mean."""
    luck: float
    """Probability that chance finds as many."""
    delay_median_s: float | None
    delay_max_s: float | None
    """From a fault's first sample until somebody is told, of those found; None where none is."""
    alarms: tuple[Alarm, ...]
    normal_days: float
    yardstick: Yardstick | None
    """None where there is nothing to fit it on."""

    @property
    def found(self) -> int:
        """Faults found by any."""
        return sum(self.found_by.values())

    @property
    def false_alarms(self) -> int:
        """Alarms in normal time; without labels all of them."""
        return sum(alarm.false for alarm in self.alarms)

    @property
    def false_alarms_per_day(self) -> float | None:
        """None without normal time."""
        return self.false_alarms / self.normal_days if self.normal_days else None

    @property
    def outcome(self) -> str | None:
        """FEW, CHANCE, YARDSTICK, OPEN, UNCOMPARED or GOOD; None without faults."""
        if not self.faults:
            return None
        if self.faults < FEWEST_FAULTS:
            return FEW
        if self.luck > LUCK:
            return CHANCE
        if self.yardstick is None:
            return UNCOMPARED
        if self.found <= self.yardstick.found:
            return YARDSTICK
        return GOOD if sign_test(self.yardstick.missed_there, self.yardstick.missed_here) <= LUCK else OPEN

    def to_json(self) -> dict[str, Any]:
        """All of it by name, JSON-able."""
        counted = ("found", "false_alarms", "false_alarms_per_day", "outcome")
        return asdict(self) | {name: getattr(self, name) for name in counted}


def judge(found: ModelScores, threshold: float, seed: int = 0) -> Judgement:
    """What the model's alarms at this threshold are worth, beside chance, of this seed, and a yardstick."""
    recording = found.recording
    labels = np.zeros(len(recording), bool) if recording.labels is None else recording.labels
    segments = runs(labels, recording.starts)
    told = first_told(found, threshold)
    each = {kind: _first_within(segments, at) for kind, at in told.items()}  # (m,) each
    finds = np.stack([each[kind] < len(recording) for kind in KINDS])  # (kinds, m)
    by, any_of = finds.argmax(0), finds.max(0)
    delays = (np.minimum.reduce(list(each.values())) - segments[:, 0])[any_of] * recording.period_s
    mean, luck = _by_chance(labels, np.minimum.reduce(list(told.values())) < len(recording), int(any_of.sum()), seed)
    normal = normal_verdicts(labels, found.samples, found.hop, 0)
    alarms = alarms_told(found, threshold)
    judged = Judgement(
        faults=None if recording.labels is None else len(segments),
        found_by={kind: int((any_of & (by == at)).sum()) for at, kind in enumerate(KINDS)},
        missed=tuple((int(a), int(b)) for a, b in segments[~any_of]),
        by_chance=mean,
        luck=luck,
        delay_median_s=float(np.median(delays)) if len(delays) else None,
        delay_max_s=float(delays.max()) if len(delays) else None,
        alarms=tuple(alarms),
        normal_days=float(normal.sum() * found.hop * recording.period_s / SECONDS_PER_DAY),
        yardstick=None,
    )
    if len(segments) < FEWEST_FAULTS:
        return judged
    most = count_alarms(found.samples[normal & (found.scores > threshold)], found.hop, recording.starts)
    most += sum(alarm.false and alarm.kind != SCORE for alarm in alarms)
    return replace(judged, yardstick=_yardstick(found, most, any_of))


def sign_test(wins: int, losses: int) -> float:
    """Probability of so many wins or more where either side wins by chance; ties are left out."""
    rounds = wins + losses
    return sum(math.comb(rounds, k) for k in range(wins, rounds + 1)) / 2**rounds


def _first_within(segments: np.ndarray, told: np.ndarray) -> np.ndarray:
    """int64 (m,): sample in which somebody is first told of a point of each [begin, end), `told` (T,)."""
    if not len(segments):
        return np.zeros(0, np.int64)
    return np.minimum.reduceat(np.append(told, len(told)), segments.ravel())[::2]


def _by_chance(labels: np.ndarray, told: np.ndarray, found: int, seed: int) -> tuple[float, float]:
    """Faults that the points of which somebody is told, `told` bool (T,), find when laid out anew: the mean, and how
    often there are as many as `found`."""
    before = np.concatenate([[0], np.cumsum(told)])
    counts = np.zeros(N_CHANCE, int)
    for run in range(N_CHANCE if labels.any() else 0):
        segments = runs(relaid_labels(labels, seed + run))
        counts[run] = (before[segments[:, 1]] > before[segments[:, 0]]).sum()
    return float(counts.mean()), float((1 + (counts >= found).sum()) / (1 + N_CHANCE))


def _yardstick(model: ModelScores, most: int, found: np.ndarray) -> Yardstick | None:
    """found: bool (m,), the faults that the model finds, with `most` false alarms."""
    from edgekd.methods.linear import PRESETS, fit_linear

    recording, labels = model.recording, model.recording.labels
    assert labels is not None
    first = int(labels.argmax())
    if model.normal is None and first < LEAST_BEGINNING:
        return None
    normal = model.normal or recording.slice(0, first)
    words = "the same training" if model.normal else f"this recording's first {first:,} samples"
    try:
        step = fit_linear(normal, PRESETS["mahalanobis"], seed=0, fit=np.ones(len(normal), bool))
    except RecordingError:  # too few samples, or nothing that changes
        return None
    scores = step.score(recording)
    calm = normal_verdicts(labels, scores.samples, step.hop, 0)
    if not calm.any():
        return None
    quiet = Scores(scores.samples[calm], scores.scores[calm], scores.contributions[calm])
    threshold = levels(quiet, step.hop, most, recording.starts)[-1]
    there = find_events(labels, scores.samples, scores.scores > threshold, step.hop, recording.starts).detected
    return Yardstick(words, int(there.sum()), int((there & ~found).sum()), int((found & ~there).sum()))
