"""Training of LTA: fit the scaling, train the teacher, distill the student with its accumulator, fit the score.

The student's loss is (1 - lambda) * reconstruction + lambda * NMSE of the attended map of the second level, published;
beta is kept out of the target's gradient so that the accumulator cannot lower the loss by making the target easier.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from edgekd.blocks.scaling import SampleScaler, judged_columns, kept_columns
from edgekd.blocks.score_terms import TopResidual
from edgekd.blocks.signature import require_few_sensors
from edgekd.blocks.threshold import FIT, parts, require_windows
from edgekd.blocks.training_windows import TrainingStream, matrix_statistics
from edgekd.data import Recording
from edgekd.methods.interface import Training
from edgekd.methods.lta.config import LTAConfig
from edgekd.methods.lta.jobs import StudentJob, TeacherJob
from edgekd.methods.lta.step import LTAStep
from edgekd.torch_file import weights_digest
from edgekd.training import fit

BYPASS_WINDOWS = 4096  # windows that the principal components are taken from
SCORE_WINDOWS = 256  # windows that the residual's variance is taken from


def train_teacher(
    recording: Recording, config: LTAConfig, how: Training
) -> tuple[LTAStep, list[dict[str, float]]]:  # fmt: skip
    """The published teacher on this recording; returns it ready to score, and its history."""
    torch.manual_seed(how.seed)
    config = config.teacher()
    step = prepared(recording, config)
    stream = _stream(step, recording, config, step.span).to(how.device)
    step.to(how.device)
    history = _fit(TeacherJob(step, stream, how.seed), recording, how)
    step.to("cpu")
    _fit_score(step, recording)
    return step, history


def distill(
    recording: Recording, config: LTAConfig, teacher: LTAStep | None, how: Training, shared: LTAStep | None = None
) -> tuple[LTAStep, list[dict[str, float]]]:
    """The student, distilled from `teacher` where `config` says so; returns it ready to score, and its history.

    shared: what it begins as, but for its scaling; `how.frozen` leaves it at that.
    """
    torch.manual_seed(how.seed)
    step = prepared(recording, config)
    begun = ""
    if shared is not None:
        take_networks(step, shared)
        begun = weights_digest("shared", shared.state_dict())
    if how.frozen and shared is not None:
        _fit_score(step, recording)
        return step, []
    if not config.distill:
        teacher = None
    pad = max(step.span, teacher.span if teacher is not None else 0)
    stream = _stream(step, recording, config, pad).to(how.device)
    teacher_stream, taught = None, begun
    if teacher is not None:
        teacher_stream = TrainingStream(teacher.all_shown, recording, step.entities(recording), pad, stream.hop)
        teacher_stream.to(how.device)
        taught += weights_digest("teacher", teacher.state_dict())
        teacher.to(how.device)
    step.to(how.device)
    history = _fit(StudentJob(step, stream, how.seed, teacher, teacher_stream), recording, how, taught)
    for network in (step, teacher):
        if network is not None:
            network.to("cpu")
    _fit_score(step, recording)
    return step, history


def untrained(recording: Recording, config: LTAConfig) -> tuple[LTAStep, np.ndarray]:
    """A step module as it begins, and the columns that it looks at.

    Raises RecordingError where the recording is too short for it or has nothing to learn.
    """
    judged = judged_columns(recording, config.judged)
    kept = kept_columns(recording.values[parts(recording) == FIT], config.drop_constant, recording.source, judged)
    require_few_sensors(len(kept), recording.source)
    if len(kept) == 1:  # oneDNN's bfloat16 gradients of strided convolutions from one pixel to one are stale memory
        config = replace(config, precision="float32")
    step = LTAStep(config, recording.n_sensors, len(kept), recording.period_s)
    if judged:
        step.judged.copy_(torch.from_numpy(np.isin(kept, judged)))
    require_windows(step, recording)
    return step, kept


def prepared(recording: Recording, config: LTAConfig) -> LTAStep:
    """A step module whose scaling is fitted to the training part and whose network is untrained."""
    step, kept = untrained(recording, config)
    fitted = parts(recording) == FIT
    step.scaler = SampleScaler.fit(recording.values[fitted], kept, config.scaling)
    step.fit_innovations(recording, fitted)
    stream = _stream(step, recording, replace(config, training_hop=0), step.span)
    step.matrix_scaler.fit(*matrix_statistics(step.matrices, stream, step.geometry.span))
    if step.bypass is not None:
        step.bypass.fit(_windows(step, stream), seed=0)
    if step.mahalanobis is not None:
        step.mahalanobis.fit(step.shown_of(recording, fitted).numpy())
    return step


def take_networks(step: LTAStep, other: LTAStep) -> None:
    """Give a step module, whose scaling is fitted, what another has learned about machines of this type."""
    step.network.load_state_dict(other.network.state_dict())
    if step.accumulator is not None and other.accumulator is not None:
        step.accumulator.load_state_dict(other.accumulator.state_dict())


def rescaled(teacher: LTAStep, recording: Recording) -> LTAStep:
    """A teacher of other machines of the same type, with the scaling of this recording; it is not made for scoring."""
    step = prepared(recording, teacher.config)
    take_networks(step, teacher)
    return step.eval()


@torch.inference_mode()
def _windows(step: LTAStep, stream: TrainingStream) -> np.ndarray:
    """Standardized matrices (windows, 3, m, m) of at most `BYPASS_WINDOWS` windows that train, spread evenly."""
    wanted = stream.positions[(stream.parts == FIT) & (stream.ages >= step.geometry.span)]
    chosen = torch.from_numpy(wanted[:: -(-len(wanted) // BYPASS_WINDOWS)])
    chunks = [step.sequence(stream.windows(some, step.span), None)[:, -1] for some in chosen.split(64)]
    return torch.cat(chunks).numpy()


def _stream(step: LTAStep, recording: Recording, config: LTAConfig, pad: int) -> TrainingStream:
    hop = step.hop if step.carried else config.training_hop or step.hop
    return TrainingStream(step.all_shown, recording, step.entities(recording), pad, hop)


@torch.inference_mode()
def _fit_score(step: LTAStep, recording: Recording) -> None:
    """Residual variances, then the spread of each term's log score, on windows that were trained on."""
    if isinstance(step.residual, TopResidual) and step.combine is None:
        return  # nothing of it is learned
    fitted = parts(recording) == FIT
    if not step.carried:  # spread evenly over the recording, enough for a variance
        newest = np.flatnonzero(fitted)
        fitted[newest[newest // step.hop % max(1, len(newest) // step.hop // SCORE_WINDOWS) != 0]] = False
    total, count = torch.zeros(1, dtype=torch.float64), 0
    pairs = []
    for start, end in step.entities(recording):
        values, wanted = torch.from_numpy(recording.values[start:end]), torch.from_numpy(fitted[start:end])
        for _, target, output, recent in step.reconstructions(values, wanted):
            residual = target - output
            total, count = total + residual.double().square().sum(0), count + len(residual)
            if step.combine is not None:
                pairs.append((residual, recent))
    step.residual.fit((total / max(1, count)).float())
    if step.combine is not None:
        live = torch.ones(step.m)
        scores = [torch.stack([score for score, _ in step.each_term(*pair, live)], 1) for pair in pairs]
        step.combine.fit(torch.cat(scores).numpy())


def _fit(job: TeacherJob | StudentJob, recording: Recording, how: Training, taught: str = "") -> list[dict[str, float]]:
    """Train, resuming only what had the same data, settings, seed and teacher (`taught`)."""
    return fit(
        job,
        epochs=job.epochs,
        patience=job.patience,
        checkpoint=how.workdir and how.workdir / f"{job.name}.training",
        resume=how.resume,
        digest=f"{recording.digest()} {sorted(job.config.to_json().items())} {how.seed} {taught}",
        report=how.report,
    )
