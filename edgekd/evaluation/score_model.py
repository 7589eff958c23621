"""The verdicts of any detector on a recording, whether it is a student checkpoint or an exported file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgekd.data.checks import require_length, require_same_sensors, same_period
from edgekd.data.recording import Recording
from edgekd.evaluation.stuck import stuck_sensors, told_here, watching
from edgekd.file_kinds import is_checkpoint
from edgekd.runtime.detector import Detector, StuckChange
from edgekd.runtime.guard import admit
from edgekd.runtime.json_fields import record, shown
from edgekd.runtime.layout import PLAIN, Layout
from edgekd.runtime.manifest import Point, SensorSpec

BLOCK = 4096  # samples between two calls of `progress`

Progress = Callable[[int], None]


@dataclass(frozen=True)
class ModelScores:
    """The verdicts of one model on one recording, and what the model says of itself."""

    name: str
    """What the model is, in a few words: "lta/edge student", "lta/edge int8 static QDQ"."""
    recording: Recording
    """The recording with its columns in the model's order."""
    samples: np.ndarray
    """int64 (V,), newest sample that each verdict has seen, in the whole recording."""
    scores: np.ndarray
    """float64 (V,)."""
    contributions: np.ndarray
    """float32 (V, n)."""
    threshold: float
    threshold_rule: str
    hop: int
    slow: np.ndarray | None = None
    """float64 (V,): the slow scores, 1 = alarm, of a model that has them."""
    slow_contributions: np.ndarray | None = None
    """float32 (V, n): theirs."""
    stuck: tuple[StuckChange, ...] = ()
    """Sensors that a device would tell to be stuck, samples in the whole recording."""
    normal: Recording | None = None
    """The normal samples of its training that the model carries; an exported file carries none."""
    points: tuple[Point, ...] = ()
    """False alarms a day and the threshold for them, where the model knows."""
    notes: tuple[str, ...] = ()
    """What does not fit but does not forbid scoring, and sensors that got stuck, one line each."""

    @property
    def alarms(self) -> np.ndarray:
        """bool (V,), at the model's own threshold."""
        return self.scores > self.threshold


def reading_for(path: Path, told: dict[str, Any]) -> dict[str, Any]:
    """How a recording is read for a model, as arguments of `edgekd.data.load`: like the one that it was trained on.

    told: what the user says of it, which is stronger. Raises ModelRefused for a file that is no model.
    """
    if is_checkpoint(path):
        from edgekd.checkpoint import Checkpoint

        checkpoint = Checkpoint.load(path)
        names, period_s = tuple(sensor["name"] for sensor in checkpoint.sensors), checkpoint.period_s
        layout = None if checkpoint.layout is None else record(checkpoint.layout, "layout", Layout)
    else:
        manifest, _ = admit(path, try_first=False)
        names, period_s, layout = manifest.names, manifest.period_s, manifest.layout
    like = replace(layout or PLAIN, sensors=names)
    found: dict[str, Any] = {"like": like, "period_s": period_s} if like.resample else {"like": like}
    return found | {name: value for name, value in told.items() if value}


def score_model(
    path: Path, recording: Recording, progress: Progress | None = None, *, one_stream: bool = False
) -> ModelScores:
    """Score a recording with the model in a file, each entity from the cold state.

    path: a checkpoint (in torch, all windows at once) or an exported file (in its engine, sample by sample as on a
    device), known by their content.
    progress: called with the number of samples that were scored since its last call.
    one_stream: let the state run on across the entities; a student that was trained so does it by itself.
    Raises ModelRefused for any other file, RecordingError where sensors or length do not fit.
    """
    scored = replace(recording, starts=(0,), entities=("",)) if one_stream else recording
    if is_checkpoint(path):
        found = _score_checkpoint(path, scored, progress or (lambda done: None))
    else:
        found = score_detector(Detector.load(path), scored, progress)
    return replace(found, recording=replace(found.recording, starts=recording.starts, entities=recording.entities))


def _score_checkpoint(path: Path, recording: Recording, progress: Progress) -> ModelScores:
    from edgekd.checkpoint import Checkpoint

    checkpoint = Checkpoint.load(path)
    recording = require_same_sensors([sensor["name"] for sensor in checkpoint.sensors], recording)
    step = checkpoint.step()
    require_length(recording, step.warmup_samples)
    notes = _other_period(checkpoint.period_s, recording)
    if not step.entity_resets and len(recording.starts) > 1:
        notes += (
            f"state runs on across the {len(recording.starts)} entities, as this model was trained; an exported file "
            "starts each from the cold state, but for --no-entity-resets",
        )
    found = step.score(recording)
    progress(len(recording))
    sensors = [SensorSpec(**sensor) for sensor in checkpoint.sensors]
    watched = recording.frame is None and any(sensor.longest_still_s for sensor in sensors)
    stuck = tuple(stuck_sensors(watching(sensors, checkpoint.period_s, step.hop), recording)) if watched else ()
    return ModelScores(
        name=f"{checkpoint.method}/{checkpoint.preset} {checkpoint.role}",
        recording=recording,
        samples=found.samples,
        scores=found.scores.astype(np.float64),
        contributions=found.contributions,
        threshold=float(checkpoint.threshold["value"]),
        threshold_rule=str(checkpoint.threshold["rule"]),
        hop=step.hop,
        slow=None if found.slow is None else found.slow.scores.astype(np.float64),
        slow_contributions=None if found.slow is None else found.slow.contributions,
        stuck=stuck,
        normal=checkpoint.replay(),
        points=tuple((rate, value) for rate, value, _ in checkpoint.threshold.get("points", ())),
        notes=notes + _stuck_in_words(stuck),
    )


def score_detector(detector: Detector, recording: Recording, progress: Progress | None = None) -> ModelScores:
    """Like `score_model`, with an exported file that is loaded already."""
    manifest = detector.manifest
    recording = require_same_sensors(manifest.names, recording)
    require_length(recording, manifest.warmup_samples)
    samples: list[int] = []
    scores: list[float] = []
    slow: list[float] = []
    contributions: list[np.ndarray] = []
    slow_contributions: list[np.ndarray] = []
    nothing, has_slow = np.zeros(recording.n_sensors, np.float32), len(manifest.outputs) > 2
    stuck: list[StuckChange] = []
    for start, end in recording.bounds:
        detector.reset()
        for at in range(start, end, BLOCK):
            block = recording.values[at : min(at + BLOCK, end)]
            for verdict in detector.update_block(block):
                samples.append(start + verdict.sample)
                scores.append(verdict.score)
                slow.append(verdict.slow.score if verdict.slow else 0.0)
                contributions.append(verdict.contributions)
                slow_contributions.append(verdict.slow.contributions if verdict.slow else nothing)
            if progress is not None:
                progress(len(block))
        stuck += told_here(detector, start)
    return ModelScores(
        name=f"{manifest.method}/{manifest.preset} {manifest.quantization.scheme.split(',')[0]}",
        recording=recording,
        samples=np.array(samples, np.int64),
        scores=np.array(scores, np.float64),
        contributions=np.array(contributions, np.float32).reshape(len(samples), recording.n_sensors),
        threshold=detector.threshold,
        threshold_rule=manifest.threshold.rule,
        hop=manifest.hop,
        slow=np.array(slow, np.float64) if has_slow else None,
        slow_contributions=np.array(slow_contributions, np.float32) if has_slow else None,
        stuck=tuple(stuck),
        points=manifest.threshold.points,
        notes=_other_period(manifest.period_s, recording) + _stuck_in_words(stuck),
    )


def _stuck_in_words(stuck: Sequence[StuckChange]) -> tuple[str, ...]:
    at: dict[str, list[int]] = {}
    for change in stuck:
        at.setdefault(shown(change.sensor), []).append(change.start)
    return tuple(
        f"sensor '{name}' is stuck from sample {starts[0]} on"
        + (f", {len(starts)} times in all" if len(starts) > 1 else "")
        for name, starts in at.items()
    )


def _other_period(period_s: float, recording: Recording) -> tuple[str, ...]:
    if same_period(recording.period_s, period_s):
        return ()
    return (
        f"the model was trained on one sample each {period_s:g} s, {recording.source or 'the recording'} has one each "
        f"{recording.period_s:g} s: its windows mean another time; resample, or correct it with --period-s",
    )
