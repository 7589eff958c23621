"""Training of a student of a series: let the teachers score the recording and outliers of it, then regress."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from edgekd.blocks.damaged_recording import damaged
from edgekd.blocks.scaling import SampleScaler, kept_columns
from edgekd.blocks.signature import Geometry, require_few_sensors
from edgekd.blocks.threshold import FIT, parts, require_windows
from edgekd.blocks.training_windows import TrainingStream, matrix_statistics
from edgekd.data.recording import Recording
from edgekd.data.request import join
from edgekd.methods.interface import Trained, Training
from edgekd.methods.regression.config import RegressionConfig
from edgekd.methods.regression.energy_student import EnergyStudent
from edgekd.methods.regression.scorers import Panel, Scorer, at_windows, scorers
from edgekd.methods.regression.series import SeriesStep
from edgekd.methods.regression.series_jobs import SeriesJob, Taught
from edgekd.runtime.errors import RecordingError, UsageError
from edgekd.training import fit

SPREAD_FLOOR = 1e-3  # of scaled samples: an almost constant sensor would otherwise decide alone
FITTED_WINDOWS = 1024  # that an energy student's features are scaled by


def train_series(recording: Recording, config: RegressionConfig, how: Training) -> Trained:
    """A student that predicts the score of the teachers in `how`."""
    if config.co_learning or config.noise != "none":
        name = "co_learning" if config.co_learning else "noise"
        raise UsageError(f"setting {name}: is for images; a series' teacher is trained before its student")
    torch.manual_seed(how.seed)
    config = _as_the_teachers(config, how)
    step = prepared(recording, config)
    panel = Panel(scorers(recording, how))
    shifted = begun_later(recording, step, times_scored(recording, config, how, step.hop))
    outliers = outlier_recordings(shifted, config, how, step)
    asked = f"{recording.source}{f', {len(shifted)} times,' if len(shifted) > 1 else ''}"
    who = "the teacher scores" if len(panel.members) == 1 else f"{len(panel.members)} teachers score"
    _tell(how, f"{who} {asked} and {len(outliers)} recordings of outliers")

    normal_stream = joined_stream(step, shifted)
    said = np.concatenate([scores_of(panel.members, each, step) for each in shifted], axis=1)
    panel.fit(said, normal_stream.parts == FIT)
    scores = panel(said)
    step.scale.fit(torch.from_numpy(scores[(normal_stream.parts == FIT) & np.isfinite(scores)]))
    normal = Taught(normal_stream, _standardized(step, scores))
    shown = None
    if outliers:
        more = [panel(scores_of(panel.members, outlier, step)) for outlier in outliers]
        shown = Taught(joined_stream(step, outliers), _standardized(step, np.concatenate(more)))
        shown.to(how.device)
    step.to(how.device)
    job = SeriesJob(step, normal.to(how.device), shown, how.seed)
    history = fit(
        job,
        epochs=job.epochs,
        patience=job.patience,
        checkpoint=how.workdir and how.workdir / "student.training",
        resume=how.resume,
        digest=f"{recording.digest()} {sorted(config.to_json().items())} {how.seed} {_taught(normal, shown)}",
        report=how.report,
    )
    return Trained(step.to("cpu").eval(), {"student": history})


def _as_the_teachers(config: RegressionConfig, how: Training) -> RegressionConfig:
    """The settings with what the teachers are made for where nothing is set: window lengths and hop of the first one
    that has some, the largest floor of their scores."""
    config = replace(config, floor=config.floor or max((step.score_floor for step in how.teachers), default=0.0))
    if config.lengths is not None:
        return config
    for step in how.teachers:
        geometry = getattr(step, "geometry", None)
        if isinstance(geometry, Geometry):
            return replace(config, lengths=geometry.lengths, hop=config.hop or geometry.hop)
    return config


def prepared(recording: Recording, config: RegressionConfig) -> SeriesStep:
    """A step module whose scaling is fitted to the training part and whose student is untrained."""
    fitted = parts(recording) == FIT
    kept = kept_columns(recording.values[fitted], config.drop_constant, recording.source)
    step = SeriesStep(config, recording.n_sensors, len(kept), recording.period_s)
    if step.of_matrices:
        require_few_sensors(len(kept), recording.source)
    require_windows(step, recording)
    step.scaler = SampleScaler.fit(recording.values[fitted], kept, config.scaling)
    step.fit_innovations(recording, fitted)
    stream = TrainingStream(step.all_shown, recording, step.entities(recording), step.span, step.hop)
    samples = step.shown_of(recording, fitted)  # (T, m)
    if step.of_matrices:
        step.matrix_scaler.fit(*matrix_statistics(step.matrices, stream, step.span))
    else:
        step.window_mean.copy_(samples.mean(0))
        step.window_scale.copy_(samples.std(0, correction=0).clamp_min(SPREAD_FLOOR))
    if isinstance(step.network, EnergyStudent):
        positions = stream.positions[(stream.parts == FIT) & (stream.ages >= step.span)]
        windows = stream.windows(torch.from_numpy(positions[:: -(-len(positions) // FITTED_WINDOWS)]), step.span)
        rows = step.energies(step.standardized(windows, None), torch.ones(step.m)) if step.of_matrices else None
        step.network.fit(samples.numpy(), windows, rows)
    return step


def times_scored(recording: Recording, config: RegressionConfig, how: Training, hop: int) -> int:
    """How often it takes to score a recording, one window a hop, to have `config.windows` of them."""
    if how.teacher_scores is not None:
        return 1
    return min(hop, max(1, math.ceil(config.windows / (len(recording) // hop))))


def begun_later(recording: Recording, step: SeriesStep, times: int) -> list[Recording]:
    """The recording so often, each a part of a hop later than the one before from wherever state begins anew, so that
    the windows of one lie between those of the others."""
    found = [recording]
    for shift in (i * step.hop // times for i in range(1, times)):
        stretches = [(start + shift, end) for start, end in step.entities(recording) if start + shift < end]
        if stretches:
            found.append(_joined([recording.slice(*stretch) for stretch in stretches]))
    return found


def outlier_recordings(
    shifted: list[Recording], config: RegressionConfig, how: Training, step: SeriesStep
) -> list[Recording]:  # fmt: skip
    """Damaged copies of the recording as often as it is scored, and what was given as `outliers` as often; none where
    no teacher can score them.

    Raises RecordingError where the given ones have another number of sensors.
    """
    if how.teacher_scores is not None or not config.outlier_share:
        if how.outliers is not None:
            raise UsageError("--outliers: scores in a file say nothing of them; give the teacher itself, --teacher")
        return []
    # the same damage for every seed: a large teacher takes minutes to score another
    found = [damaged(each, step.span, seed=copy) for copy, each in enumerate(shifted * config.damaged_copies)]
    if how.outliers is not None:
        recording, given = shifted[0], how.outliers
        if given.n_sensors != recording.n_sensors or given.frame != recording.frame:
            raise RecordingError(
                f"{given.source}: {given.n_sensors} sensors, {recording.source} has {recording.n_sensors}; outliers "
                "must have the shape of the recording"
            )
        given = replace(given, sensors=recording.sensors, period_s=recording.period_s, labels=None)
        found += begun_later(given, step, len(shifted))
    return found


def scores_of(members: Sequence[Scorer], recording: Recording, step: SeriesStep) -> np.ndarray:
    """What every teacher says of every window of a recording, (members, W), in the order of a training stream."""
    newest = np.concatenate(
        [np.arange(start + step.hop, end + 1, step.hop) - 1 for start, end in step.entities(recording)]
    )
    return np.stack([at_windows(member(recording), newest, step.hop) for member in members])


def joined_stream(step: SeriesStep, recordings: list[Recording]) -> TrainingStream:
    """Several recordings as one stream, each a stretch or more of its own."""
    offsets = np.cumsum([0, *map(len, recordings)])
    stretches = [
        (int(offset) + start, int(offset) + end)
        for offset, each in zip(offsets, recordings)
        for start, end in step.entities(each)
    ]
    return TrainingStream(step.all_shown, _joined(recordings), stretches, step.span, step.hop)


def _joined(recordings: Sequence[Recording]) -> Recording:
    """One after the other, each entity under its own name."""
    return recordings[0] if len(recordings) == 1 else join(recordings, [""] * len(recordings))


def _standardized(step: SeriesStep, scores: np.ndarray) -> torch.Tensor:
    return step.scale.standardize(torch.from_numpy(scores)).float()


def _taught(*sets: Taught | None) -> str:
    """A digest of all targets, so that a training goes on with the same teachers only."""
    h = hashlib.sha256()
    for each in sets:
        if each is not None:
            h.update(each.targets.cpu().numpy().tobytes())
    return h.hexdigest()


def _tell(how: Training, words: str) -> None:
    how.report({"job": "student", "note": words})
