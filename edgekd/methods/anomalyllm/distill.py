"""Training of AnomalyLLM: scaling, prototypes, both networks together, and the mini-teacher where one is wanted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from edgekd.blocks.scaling import SampleScaler, kept_columns
from edgekd.blocks.threshold import FIT, parts, require_windows
from edgekd.blocks.training_windows import TrainingStream
from edgekd.data.recording import Recording
from edgekd.methods.anomalyllm.config import FULL, MINI, AnomalyLLMConfig
from edgekd.methods.anomalyllm.jobs import JointJob, MiniJob, _Job, windows_of
from edgekd.methods.anomalyllm.networks import Prototypes, Teacher, statistics
from edgekd.methods.anomalyllm.step import AnomalyLLMStep
from edgekd.methods.anomalyllm.weights import make_teacher
from edgekd.methods.interface import Training
from edgekd.torch_file import weights_digest
from edgekd.training import fit

CLUSTERED = 2048  # windows, spread evenly, that the first prototypes are centers of
MINI_DRAWS = 4  # sets of damaged copies that a mini-teacher learns from

History = list[dict[str, float]]


def train_both(recording: Recording, config: AnomalyLLMConfig, how: Training) -> tuple[AnomalyLLMStep, History]:
    """The detector as published: returns it ready to score, and its history."""
    torch.manual_seed(how.seed)
    step = prepared(recording, replace(config, tier=FULL))
    stream = _stream(step, recording, how)
    train, held = windows_of(step, stream, how.seed, config.draws)
    if step.student.pool is not None and config.pool_init == "kmeans":
        begin_prototypes(step.student.pool, train.windows, how.seed)
    step.to(how.device)
    assert isinstance(step.teacher, Teacher)
    if config.cached:
        step.eval()
        for windows in (train, held):
            windows.remember(step.teacher, config.precision)
    history = _fit(JointJob(step, train, held, how.seed), recording, how)
    return step.to("cpu").eval().requires_grad_(False), history


def train_mini(
    recording: Recording, config: AnomalyLLMConfig, full: AnomalyLLMStep, how: Training
) -> tuple[AnomalyLLMStep, History]:
    """A detector whose language model is replaced by a network of the student's size; `full` is left as it is."""
    torch.manual_seed(how.seed)
    of_training = {name: getattr(config, name) for name in MINI_SETTINGS}
    step = AnomalyLLMStep(
        replace(full.config, tier=MINI, synthetic=True, **of_training), full.n_sensors, full.m, recording.period_s
    )
    step.scaler.load_state_dict(full.scaler.state_dict())
    step.student.load_state_dict(full.student.state_dict())
    step.student.requires_grad_(False)
    train, held = windows_of(step, _stream(step, recording, how), how.seed, MINI_DRAWS)
    assert isinstance(full.teacher, Teacher)
    full.to(how.device).eval()
    step.to(how.device)
    for windows in (train, held):
        windows.remember(full.teacher, config.precision)
    job = MiniJob(step, full.teacher, train, held, how.seed)
    history = _fit(job, recording, how, weights_digest("taught", full.state_dict()))
    full.to("cpu")
    return step.to("cpu").eval().requires_grad_(False), history


def prepared(recording: Recording, config: AnomalyLLMConfig) -> AnomalyLLMStep:
    """A step module whose scaling is fitted to the training part, with the teacher as it begins to train."""
    fitted = recording.values[parts(recording) == FIT]
    kept = kept_columns(fitted, config.drop_constant, recording.source)
    with torch.device("meta"):  # the teacher is made once, by what knows its weights
        step = AnomalyLLMStep(config, recording.n_sensors, len(kept), recording.period_s)
    require_windows(step, recording)
    teacher, config = make_teacher(config, len(kept))
    step = AnomalyLLMStep(config, recording.n_sensors, len(kept), recording.period_s)
    step.teacher = teacher
    step.scaler = SampleScaler.fit(fitted, kept, config.scaling)
    return step


@torch.no_grad()
def begin_prototypes(pool: Prototypes, windows: Tensor, seed: int) -> None:
    """The centers of training windows (N, L, m) as the first prototypes of each sensor, repeated where windows are few.

    They are centers of what the pool is compared with and shown as: instance-normalized windows, or raw ones.
    """
    from sklearn.cluster import KMeans

    series = windows[:: -(-len(windows) // CLUSTERED)].transpose(1, 2)  # (N, m, L)
    if not pool.scaled:
        mean, spread = statistics(series)
        series = (series - mean) / spread
    wanted = pool.windows.shape[1]
    for sensor, rows in enumerate(series.cpu().double().numpy().transpose(1, 0, 2)):
        distinct = len(np.unique(rows, axis=0))
        centers = KMeans(min(wanted, distinct), n_init=1, random_state=seed).fit(rows).cluster_centers_
        pool.windows[sensor].copy_(torch.from_numpy(np.resize(centers, (wanted, rows.shape[1]))))


MINI_SETTINGS = (
    "mini_epochs", "updates", "patience", "learning_rate", "beta2", "weight_decay", "schedule", "plateau_epochs",
    "batch", "training_hop", "windows", "precision", "head", "head_norm", "anomalies", "draws",
)  # fmt: skip


def _stream(step: AnomalyLLMStep, recording: Recording, how: Training) -> TrainingStream:
    hop = step.config.training_hop or step.hop
    stretches = step.entities(recording)
    return TrainingStream(step.all_shown, recording, stretches, step.span, hop).to(how.device)


def _fit(job: _Job, recording: Recording, how: Training, taught: str = "") -> History:
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
