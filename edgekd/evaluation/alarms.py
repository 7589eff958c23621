"""The alarms that a device tells of a recording at its defaults: of the score, slow ones, stuck sensors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from edgekd.blocks.slow import AROUND, BOX
from edgekd.blocks.threshold import told_episodes
from edgekd.data.recording import Recording
from edgekd.evaluation.events import verdict_points
from edgekd.evaluation.score_model import ModelScores
from edgekd.runtime.detector import StuckChange, Verdict
from edgekd.runtime.episodes import COOLDOWN_HOPS, End, Episodes, Onset
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
    first: int
    """Sample of its first verdict, or of the standstill ..."""
    last: int
    """... and of its last."""


def alarms_told(found: ModelScores, threshold: float) -> list[Alarm]:
    """All of them in order. threshold: of the score."""
    recording, hop = found.recording, found.hop
    labels = np.zeros(len(recording), bool) if recording.labels is None else recording.labels
    names, index = recording.sensors, {int(sample): row for row, sample in enumerate(found.samples)}

    def alarm(sample: int, kind: str, sensor: str, since: int, first: int, last: int) -> Alarm:
        return Alarm(sample, kind, sensor, not labels[max(0, since) : sample + 1].any(), first, last)

    alarms = [
        alarm(at, SCORE, names[int(found.contributions[index[at]].argmax())], first + 1 - hop, first, last)
        for first, at, last in told_episodes(found.samples[found.scores > threshold], hop, recording.starts)
    ]
    alarms += [alarm(at, SLOW, "", at + 1 - SLOW_TRAIL_HOPS * hop, at, last) for at, last in _slow_told(found)]
    alarms += [
        alarm(change.sample, STUCK, change.sensor, change.start, change.start, _stands_until(recording, change))
        for change in found.stuck
    ]
    return sorted(alarms, key=lambda one: one.sample)


def first_told(found: ModelScores, threshold: float) -> dict[str, np.ndarray]:
    """By kind, for each point the sample in which somebody is told of it, or the recording's length where nobody is.

    int64 (T,) each: the verdict that speaks for the point, if it alarms. Stuck sensors and slow alarms count where they
    are told alone: averages alarm on for hours after a fault, into the next one.
    """
    length, samples, starts = len(found.recording), found.samples, found.recording.starts
    owner = verdict_points(samples, found.hop, length, starts)
    fast, slow = np.full(len(samples) + 1, length), np.full(len(samples) + 1, length)
    for first, at, last in told_episodes(samples[found.scores > threshold], found.hop, starts):
        rows = slice(*np.searchsorted(samples, (first, last + 1)))
        fast[rows] = np.maximum(samples[rows], at)
    for at, _ in _slow_told(found):
        slow[np.searchsorted(samples, at)] = at
    stuck = np.full(length, length, np.int64)
    for change in found.stuck:
        stuck[change.sample] = change.sample
    return {SCORE: fast[owner], STUCK: stuck, SLOW: slow[owner]}


def _slow_told(found: ModelScores) -> Iterator[tuple[int, int]]:
    """Samples in which a slow alarm is told, and of its last verdict."""
    if found.slow is None:
        return
    entity = np.searchsorted(found.recording.starts, found.samples, side="right")
    for which in np.unique(entity):
        mine = entity == which
        episodes, told = Episodes(0, COOLDOWN_HOPS * found.hop, SLOW_HYSTERESIS), -1
        for sample, score in zip(found.samples[mine].tolist(), found.slow[mine].tolist()):
            turn = episodes.update(Verdict(sample, score, 1.0, score > 1.0, NOBODY, ()))
            if isinstance(turn, Onset):
                told = sample
            elif isinstance(turn, End):
                yield told, sample - found.hop
        if episodes.start is not None:
            yield told, int(found.samples[mine][-1])


def _stands_until(recording: Recording, change: StuckChange) -> int:
    """The last sample in which a stuck sensor says the same."""
    end = next(end for start, end in recording.bounds if start <= change.sample < end)
    values = recording.values[change.sample : end, recording.sensors.index(change.sensor)]
    moves = np.flatnonzero(values != values[0])
    return change.sample + int(moves[0]) - 1 if len(moves) else end - 1
