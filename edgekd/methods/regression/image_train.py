"""Training of image students: the autoencoder first and then the student, or both together (co-learning)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from edgekd.blocks.scaling import SampleScaler
from edgekd.blocks.step import StepModule
from edgekd.blocks.threshold import AUDIT, CALIBRATE, FIT, parts
from edgekd.data.recording import Recording
from edgekd.methods.interface import Trained, Training
from edgekd.methods.regression.config import AUTOENCODER, RegressionConfig
from edgekd.methods.regression.image import AutoencoderStep, ImageModule, ImageStep, image_step, images_of
from edgekd.methods.regression.image_jobs import Group, ImageJob, Images, Teach
from edgekd.runtime.errors import RecordingError, UsageError
from edgekd.torch_file import weights_digest
from edgekd.training import fit

OUTLIERS = 12_000  # at most so many outlier images are kept in memory, spread over their set
HELD_OUTLIERS = 0.1  # part of the outliers that validates
FEWEST = 20  # normal images; with fewer no part of them can validate or set a threshold


def train_image(recording: Recording, config: RegressionConfig, how: Training) -> Trained:
    """Teacher (or the one given), then student; both at once with co-learning."""
    config = replace(config, rows=config.rows or recording.frame or recording.n_sensors)
    _require(recording, config, how)
    images, scaler = training_images(recording, config, how.outliers)
    histories = {}
    alone = config.student == AUTOENCODER
    teacher = new_step(config.teacher(), recording, scaler, how.seed)
    assert isinstance(teacher, AutoencoderStep)
    if alone:
        histories["student"] = run("student", images, config, how, recording, [], teacher)
        return Trained(teacher.eval(), histories)
    student = new_step(config, recording, scaler, how.seed)
    assert isinstance(student, ImageStep)
    groups = [Group("student", [student], how.outliers is not None, config.noise)]
    if config.co_learning:
        histories["student"] = run("student", images, config, how, recording, groups, teacher)
        how.keep_teacher(teacher.eval())
        return Trained(student.eval(), histories)
    teach, taught = _given(how, recording, scaler)
    if teach is None:
        histories["teacher"] = run("teacher", images, config, how, recording, [], teacher)
        how.keep_teacher(teacher.eval())
        teach, taught = teacher.scores, weights_digest("teacher", teacher.state_dict())
    histories["student"] = run("student", images, config, how, recording, groups, teach=teach, taught=taught)
    return Trained(student.eval(), histories)


def new_step(config: RegressionConfig, recording: Recording, scaler: SampleScaler, seed: int) -> ImageModule:
    """An untrained module; its weights hang on the seed alone, not on what was made before it."""
    torch.manual_seed(seed)
    step = image_step(config, recording.n_sensors)
    step.scaler.load_state_dict(scaler.state_dict())
    return step


def run(
    name: str,
    images: Images,
    config: RegressionConfig,
    how: Training,
    recording: Recording,
    groups: Sequence[Group],
    teacher: AutoencoderStep | None = None,
    teach: Teach | None = None,
    taught: str = "",
) -> list[dict[str, float]]:
    """One training to its end, resuming only what had the same data, settings, seed and teacher; its history."""
    job = ImageJob(name, images, config, how.seed, list(groups), teacher, teach, how.device)
    outliers = "" if how.outliers is None else how.outliers.digest()
    settings = sorted(config.to_json().items())
    who = [(group.name, [student.config.student for student in group.students]) for group in groups]
    history = fit(
        job,
        epochs=job.epochs,
        patience=job.patience,
        checkpoint=how.workdir and how.workdir / f"{name}.training",
        resume=how.resume,
        digest=f"{recording.digest()} {outliers} {settings} {who} {how.seed} {taught}",
        report=how.report,
        keep_from=job.keep_from,
    )
    job.finish()
    return history


# -- the images -------------------------------------------------------------------------------------------------------


def training_images(
    recording: Recording, config: RegressionConfig, outliers: Recording | None
) -> tuple[Images, SampleScaler]:
    """Scaled images of the training part and of the part that validates, with the outliers, and the scaler."""
    rows = config.rows
    raw = images_of(recording, rows)
    part = parts(recording)[rows - 1 :: rows]
    step = image_step(config, recording.n_sensors)
    step.fit_scaler(raw[part == FIT])
    live = torch.ones(recording.n_sensors)

    def scaled(some: np.ndarray) -> Tensor:
        return step.scaled(torch.from_numpy(np.ascontiguousarray(some)), live)

    found = Images(scaled(raw[part == FIT]), scaled(raw[part == CALIBRATE]))
    if outliers is not None:
        foreign = images_of(outliers, rows)
        foreign = foreign[np.linspace(0, len(foreign) - 1, min(OUTLIERS, len(foreign))).astype(int)]
        held = max(1, int(len(foreign) * HELD_OUTLIERS))
        order = np.random.default_rng(0).permutation(len(foreign))
        found = replace(found, outliers=scaled(foreign[order[held:]]), held_outliers=scaled(foreign[order[:held]]))
    return found, step.scaler


def _require(recording: Recording, config: RegressionConfig, how: Training) -> None:
    """Refuse what cannot be trained, in one line, before any work."""
    images = images_of(recording, config.rows)
    part = parts(recording)[config.rows - 1 :: config.rows]
    if len(images) < FEWEST or not all((part == which).any() for which in (FIT, CALIBRATE, AUDIT)):
        raise RecordingError(f"{recording.source}: {len(images)} images are too few to train on; give {FEWEST} or more")
    if how.outliers is not None:
        mine, theirs = (recording.n_sensors, config.rows), (how.outliers.n_sensors, how.outliers.frame or config.rows)
        if mine != theirs:
            raise UsageError(
                f"{how.outliers.source}: outliers of {theirs[1]} x {theirs[0]} pixels, but {recording.source} has "
                f"images of {mine[1]} x {mine[0]}; give outliers of the same shape"
            )
        if how.outliers.digest() == recording.digest():
            raise UsageError(f"{how.outliers.source}: these outliers are the normal images; give another set")
        if len(images_of(how.outliers, config.rows)) < 2:
            raise UsageError(f"{how.outliers.source}: a single outlier; give at least two, one of them validates")
    given = len(how.teachers) or int(how.teacher is not None)
    if how.teacher_scores is not None:
        raise UsageError(
            "--teacher-scores teaches a series; for images leave it out, or give an image model by --teacher"
        )
    if config.co_learning and given:
        raise UsageError("co-learning trains its own teacher beside the student; leave out --teacher")
    if given > 1:
        raise UsageError(f"{given} teachers were given; images are taught by one; leave out all but one --teacher")


def _given(how: Training, recording: Recording, scaler: SampleScaler) -> tuple[Teach | None, str]:
    """What a given teacher scores, and a digest of it; nothing where none was given."""
    teacher: StepModule | None = how.teachers[0] if how.teachers else how.teacher
    if teacher is None:
        return None, ""
    if not isinstance(teacher, ImageModule) or teacher.shape[2] != recording.n_sensors:
        raise UsageError("the given teacher is not of images of this shape; leave out --teacher")
    ratio = float(scaler.scale[0] / teacher.scaler.scale[0])
    shift = float((scaler.offset[0] - teacher.scaler.offset[0]) / teacher.scaler.scale[0])
    teacher.to(how.device)

    def scores(images: Tensor) -> Tensor:
        return teacher.scores((images * ratio + shift).clamp(0.0, 1.0))

    return scores, weights_digest("teacher", teacher.state_dict())
