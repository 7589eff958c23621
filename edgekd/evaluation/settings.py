"""What another threshold, minimum duration or cooldown would have told of one recording, counted as a device tells it.

The page of a report counts the same way (`edgekd/report/script/counting.js`); a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from edgekd.blocks.threshold import told_episodes
from edgekd.runtime.duration import UNITS
from edgekd.runtime.episodes import COOLDOWN_HOPS

DURATIONS = (0, 1, 2, 3, 5, 8, 12, 20)
"""Minimum durations that are tried, in hops."""
COOLDOWNS = (COOLDOWN_HOPS, 20, 60)
"""Cooldowns that are tried, in hops."""
LEVELS = 40
"""Thresholds that are tried."""


@dataclass(frozen=True)
class Setting:
    """When a device tells an alarm of the score."""

    threshold: float
    min_hops: int = 0
    cooldown_hops: int = COOLDOWN_HOPS

    def options(self, hop_s: float) -> dict[str, str]:
        """By the names that `edgekd-run` and `edgekd-gateway` give them; what is at its default is left out."""
        found = {"threshold": f"{self.threshold:.6g}"}
        if self.min_hops:
            found["min-duration"] = written(self.min_hops * hop_s)
        if self.cooldown_hops != COOLDOWN_HOPS:
            found["cooldown"] = written(self.cooldown_hops * hop_s)
        return found


@dataclass(frozen=True)
class Outcome:
    """What a setting tells."""

    alarms: int
    false_alarms: int
    """Of these, those of which no verdict up to the told one speaks for a labeled sample."""
    told_at: np.ndarray
    """int64 (m,): sample in which each fault is told, -1 where it is not."""

    @property
    def found(self) -> np.ndarray:
        """bool (m,)"""
        return self.told_at >= 0


class Verdicts:
    """The scores of one recording, and the faults that they speak for."""

    def __init__(
        self, samples: np.ndarray, scores: np.ndarray, hop: int, segments: np.ndarray, starts: Sequence[int] = (0,)
    ) -> None:
        """samples: int64 (V,), newest of each verdict; segments: int64 (m, 2), [begin, end) of each labeled fault, none
        across one of the entities' `starts`."""
        self.samples, self.scores, self.hop, self.segments, self.starts = samples, scores, hop, segments, starts
        ends = np.append(starts, np.iinfo(np.int64).max)[np.searchsorted(starts, segments[:, 0], side="right")]
        self.first = np.searchsorted(samples, segments[:, 0])
        """(m,): the first verdict that speaks for each fault, and the one after the last."""
        self.end = np.searchsorted(samples, np.minimum(segments[:, 1] + hop - 1, ends))

    def outcome(self, setting: Setting) -> Outcome:
        """What is found of the faults, and what is false."""
        positive = self.samples[self.scores > setting.threshold]
        told = told_episodes(positive, self.hop, self.starts, setting.min_hops, setting.cooldown_hops)
        first, at, last = np.searchsorted(self.samples, np.array(told, np.int64).reshape(-1, 3)).T
        labeled = np.zeros(len(self.samples) + 1, np.int64)
        told_at = np.full(len(self.first), -1, np.int64)
        for fault, (begin, end) in enumerate(zip(self.first.tolist(), self.end.tolist())):
            labeled[begin + 1 : end + 1] = 1
            which = int(np.searchsorted(last, begin))  # the first alarm that is not over by then
            if begin < end and which < len(last) and first[which] < end:
                told_at[fault] = self.samples[max(at[which], begin)]
        before = np.cumsum(labeled)
        return Outcome(len(told), int((before[at + 1] == before[first]).sum()), told_at)


def best(verdicts: Verdicts, now: Setting, anyway: np.ndarray | None = None) -> Setting | None:
    """The setting that tells the fewest false alarms of those that still tell each fault that `now` tells; None where
    none tells fewer, or nothing true is told.

    anyway: bool (m,), the faults that a slow alarm or a stuck sensor tells, whatever the setting is.
    Only what tells less than `now` is tried: of what it did not tell nobody has said whether it is true. Of settings
    that are as good, the one that changes least and tells soonest; of thresholds, the middle of those that do.
    """
    before = verdicts.outcome(now)
    if not before.found.any():
        return None
    needed = before.found if anyway is None or not (before.found & ~anyway).any() else before.found & ~anyway
    tried = {}
    for setting in _stricter(verdicts, now):
        outcome = verdicts.outcome(setting)
        if outcome.false_alarms < before.false_alarms and (outcome.found | ~needed).all():
            changes = (setting.min_hops != now.min_hops) + (setting.cooldown_hops != now.cooldown_hops)
            tried[setting] = outcome.false_alarms, changes, int(outcome.told_at[needed].sum())
    if not tried:
        return None
    chosen = min(tried, key=tried.__getitem__)
    alike = [
        each.threshold
        for each, (false_alarms, *_) in tried.items()
        if replace(each, threshold=chosen.threshold) == chosen and false_alarms == tried[chosen][0]
    ]
    if now.threshold in alike:
        return replace(chosen, threshold=now.threshold)
    higher = verdicts.scores[verdicts.scores > max(alike)]  # none changes anything below the next score
    middle = replace(chosen, threshold=_four_digits(_middle(min(alike), float(higher.min(initial=np.inf)))))
    after = verdicts.outcome(middle)
    fits = after.false_alarms <= tried[chosen][0] and (after.found | ~needed).all()
    return middle if fits else chosen


def written(seconds: float) -> str:
    """A length of time as options take it: "90s", "10min", "2h"."""
    unit, size = next(
        ((name, UNITS[name]) for name in ("d", "h", "min") if seconds >= UNITS[name] and seconds % UNITS[name] == 0),
        ("s", 1.0),
    )
    return f"{seconds / size:.6g}{unit}"


def _stricter(verdicts: Verdicts, now: Setting) -> Iterator[Setting]:
    above = np.unique(verdicts.scores[verdicts.scores > now.threshold])
    chosen = above[np.unique(np.linspace(0, len(above) - 1, LEVELS).astype(int))] if len(above) else above
    thresholds = [now.threshold, *map(_four_digits, chosen.tolist())]
    durations = [now.min_hops, *(hops for hops in DURATIONS if hops > now.min_hops)]
    cooldowns = [now.cooldown_hops, *(hops for hops in COOLDOWNS if hops > now.cooldown_hops)]
    for threshold, min_hops, cooldown_hops in product(dict.fromkeys(thresholds), durations, cooldowns):
        yield Setting(threshold, min_hops, cooldown_hops)


def _middle(low: float, high: float) -> float:
    if np.isinf(high):
        return low
    return float(np.sqrt(low * high)) if low > 0 else (low + high) / 2


def _four_digits(value: float) -> float:
    """What a person types, so that it is what is counted."""
    return float(f"{value:.4g}")
