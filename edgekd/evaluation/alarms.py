"""The alarms that a device tells of a recording at its defaults: of the score, slow ones, stuck sensors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from edgekd.blocks.slow import AROUND, BOX
from edgekd.blocks.threshold import told_episodes
from edgekd.evaluation.events import verdict_points
from edgekd.evaluation.score_model import ModelScores
from edgekd.runtime.detector import Verdict
from edgekd.runtime.episodes import COOLDOWN_HOPS, Episodes, Onset
from edgekd.runtime.loop import SLOW_HYSTERESIS

SCORE, STUCK, SLOW = KINDS = ("score", "stuck", "slow")
SLOW_TRAIL_HOPS = BOX + 2 * AROUND  # an average holds a fault for so long
NOBODY = np.zeros(0, np.float32)


@dataclass(frozen=True)
class Alarm:
    """One alarm."""

    sample: int
    """In which it is told."""
    kind: str
    """One of KINDS."""
    sensor: str
    """That contributes most, or is stuck; "" of a slow one."""
    false: bool
    """Nothing that it looks at is labeled: its verdicts up to then, the averages of a slow one, the standstill."""


def alarms_told(found: ModelScores, threshold: float) -> list[Alarm]:
    """All of them in order. threshold: of the score."""
    recording, hop = found.recording, found.hop
    labels = np.zeros(len(recording), bool) if recording.labels is None else recording.labels
    names, index = recording.sensors, {int(sample): row for row, sample in enumerate(found.samples)}

    def alarm(sample: int, kind: str, sensor: str, since: int) -> Alarm:
        return Alarm(sample, kind, sensor, not labels[max(0, since) : sample + 1].any())

    alarms = [
        alarm(at, SCORE, names[int(found.contributions[index[at]].argmax())], first + 1 - hop)
        for first, at, _ in told_episodes(found.samples[found.scores > threshold], hop, recording.starts)
    ]
    alarms += [alarm(at, SLOW, "", at + 1 - SLOW_TRAIL_HOPS * hop) for at in _slow_told_at(found)]
    alarms += [alarm(change.sample, STUCK, change.sensor, change.start) for change in found.stuck]
    return sorted(alarms, key=lambda one: one.sample)


def first_told(found: ModelScores, threshold: float) -> dict[str, np.ndarray]:
    """By kind, for each point the sample in which somebody is told of it, or the recording's length where nobody is.

    int64 (T,) each: the verdict that speaks for the point, if it alarms; a stuck sensor where it is told.
    """
    length, samples, starts = len(found.recording), found.samples, found.recording.starts
    owner = verdict_points(samples, found.hop, length, starts)
    fast, stuck = np.full(len(samples) + 1, length), np.full(length, length)
    for first, at, last in told_episodes(samples[found.scores > threshold], found.hop, starts):
        rows = slice(*np.searchsorted(samples, (first, last + 1)))
        fast[rows] = np.maximum(samples[rows], at)
    for change in found.stuck:
        stuck[change.sample] = change.sample
    slow = np.full(len(samples) + 1, length)
    if found.slow is not None:
        slow[:-1] = np.where(found.slow > 1, samples, length)
    return {SCORE: fast[owner], STUCK: stuck, SLOW: slow[owner]}


def _slow_told_at(found: ModelScores) -> Iterator[int]:
    if found.slow is None:
        return
    entity = np.searchsorted(found.recording.starts, found.samples, side="right")
    for which in np.unique(entity):
        mine = entity == which
        episodes = Episodes(0, COOLDOWN_HOPS * found.hop, SLOW_HYSTERESIS)
        for sample, score in zip(found.samples[mine].tolist(), found.slow[mine].tolist()):
            if isinstance(episodes.update(Verdict(sample, score, 1.0, score > 1.0, NOBODY, ())), Onset):
                yield sample
