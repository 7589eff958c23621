"""What a model finds for a budget of false alarms a day, at the thresholds that it carries for it.

False alarms are counted as a device tells them at its default cooldown, from verdicts that speak for no labeled point.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgekd.blocks.threshold import count_alarms
from edgekd.evaluation.events import SECONDS_PER_DAY, find_events
from edgekd.evaluation.score_model import ModelScores
from edgekd.runtime.manifest import threshold_at

BUDGETS = (0.1, 1.0, 10.0)  # false alarms a day


@dataclass(frozen=True)
class AtBudget:
    """One budget, and what became of it."""

    per_day: float
    """The budget."""
    threshold: float
    events: int
    found: int
    delay_median_s: float | None
    """Of the events found; None where there is none."""
    false_alarms: int
    false_alarms_per_day: float | None
    """None without normal time."""
    normal_days: float

    def to_json(self) -> dict[str, Any]:
        """All of it by name."""
        return asdict(self)


def at_budgets(found: ModelScores, budgets: tuple[float, ...] = BUDGETS, margin: int = 0) -> list[AtBudget]:
    """Events found, delay and false alarms for each budget.

    margin: samples around labels that count as neither. Raises UsageError where the model carries no such thresholds.
    """
    recording = found.recording
    labels = np.zeros(len(recording), bool) if recording.labels is None else recording.labels
    normal = normal_verdicts(labels, found.samples, found.hop, margin)
    days = float(normal.sum() * found.hop * recording.period_s / SECONDS_PER_DAY)
    rows = []
    for per_day in budgets:
        threshold = threshold_at(found.points, per_day)
        positive = found.scores > threshold
        events = find_events(labels, found.samples, positive, found.hop, recording.starts)
        alarms = count_alarms(found.samples[positive & normal], found.hop, recording.starts)
        delay = float(np.median(events.delays) * recording.period_s) if events.detected.any() else None
        detected = int(events.detected.sum())
        rate = alarms / days if days else None
        rows.append(AtBudget(per_day, threshold, len(events.segments), detected, delay, alarms, rate, days))
    return rows


def normal_verdicts(labels: np.ndarray, samples: np.ndarray, hop: int, margin: int) -> np.ndarray:
    """bool (V,): the verdicts whose hop is farther than `margin` samples from any label; labels bool (T,)."""
    before = np.concatenate([[0], np.cumsum(labels)])
    first, last = samples + 1 - hop - margin, samples + 1 + margin
    return np.asarray(before[np.minimum(last, len(labels))] == before[np.maximum(first, 0)])


def in_words(rows: list[AtBudget]) -> str:
    """A table for people, a row for each budget."""
    lines = [f"{'budget a day':>12}{'threshold':>12}{'events found':>15}{'median delay':>15}{'false alarms a day':>20}"]
    for row in rows:
        delay = "-" if row.delay_median_s is None else f"{row.delay_median_s:,.4g} s"
        rate = "-" if row.false_alarms_per_day is None else f"{row.false_alarms_per_day:.2f}"
        events = f"{row.found} of {row.events}"
        lines.append(f"{row.per_day:>12g}{row.threshold:>12.4g}{events:>15}{delay:>15}{rate:>20}")
    return "\n".join(lines)
