"""What a file detects on a labeled recording, and how its verdicts there differ from those in float."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgekd.data.recording import Recording
from edgekd.evaluation.score_model import ModelScores, score_detector
from edgekd.export.parity import spearman
from edgekd.runtime.detector import Detector


@dataclass(frozen=True)
class Detection:
    """The headline of a report, at the file's own threshold; None where it is not defined."""

    source: str
    vus_pr: float | None
    vus_pr_random: float | None
    """Of random scores; measured once, for the float file, which gives as many verdicts."""
    events: int | None
    events_found: int | None
    false_alarms_per_day: float | None
    rank_correlation: float | None = None
    """Of an int8 file with the float one, every verdict of the recording."""
    changed_decisions: float | None = None
    """Share of the verdicts that differ from the float file's, each at its own threshold."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def detect(
    detector: Detector, recording: Recording, of_float: ModelScores | None = None
) -> tuple[Detection, ModelScores]:
    """Score the recording, each entity from the cold state. of_float: the float file's verdicts, to compare with."""
    from edgekd.evaluation.report import N_CHANCE, evaluate_scores

    found = score_detector(detector, recording)
    report = evaluate_scores(
        found.recording,
        found.samples,
        found.scores,
        found.threshold,
        found.hop,
        chance_runs=N_CHANCE if of_float is None else 0,
    )
    head = report.headline()
    detection = Detection(
        source=recording.source,
        **{key: head[key] for key in ("vus_pr", "vus_pr_random", "events", "events_found", "false_alarms_per_day")},
        rank_correlation=None if of_float is None else spearman(of_float.scores, found.scores),
        changed_decisions=None if of_float is None else float(np.mean(found.alarms != of_float.alarms)),
    )
    return detection, found
