"""What slow verdicts find beside the score's own."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from edgekd.evaluation.events import false_alarms, find_events
from edgekd.evaluation.score_model import ModelScores


@dataclass(frozen=True)
class SlowReport:
    """The slow verdicts of one model on one recording, 1 being their threshold."""

    events: int
    found: int
    found_alone: int
    """Of these, those that the score does not find at its threshold."""
    false_alarms: int
    """Alarms in normal time; those that outlast an event that was found, as averages do, are left out."""
    normal_days: float

    def to_json(self) -> dict[str, Any]:
        """All of it by name."""
        return asdict(self)

    def in_words(self) -> str:
        """One line for people."""
        alarms = f"{self.false_alarms} false alarm{'s' * (self.false_alarms != 1)} in {self.normal_days:.3g} days"
        if not self.events:
            return f"slow verdicts: {alarms}"
        return f"slow verdicts: {self.found} of {self.events} events, {self.found_alone} of them alone; {alarms}"


def slow_report(found: ModelScores, threshold: float) -> SlowReport | None:
    """None of a model without slow verdicts. threshold: of the score's own alarms."""
    if found.slow is None:
        return None
    recording, labels = found.recording, found.recording.labels
    place = found.hop, recording.period_s, len(recording), recording.starts
    alarms = false_alarms(labels, found.samples, found.slow > 1, *place)
    told = alarms.episodes - alarms.trailing
    if labels is None:
        return SlowReport(0, 0, 0, told, alarms.normal_days)
    by = [
        find_events(labels, found.samples, positive, found.hop, recording.starts).detected
        for positive in (found.slow > 1, found.scores > threshold)
    ]
    return SlowReport(len(by[0]), int(by[0].sum()), int((by[0] & ~by[1]).sum()), told, alarms.normal_days)
