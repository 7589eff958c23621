"""`lta`: distilled MSCRED with a Long-Term Accumulator."""

from __future__ import annotations

from edgekd.blocks.step import Scores, StepModule, too_much_state
from edgekd.blocks.with_slow import WithSlow, fit_with_slow, with_slow
from edgekd.data.recording import Recording
from edgekd.methods.interface import Trained, Training
from edgekd.methods.lta.config import PRESETS, LTAConfig
from edgekd.methods.lta.distill import distill, rescaled, train_teacher, untrained
from edgekd.methods.lta.joint import JointStep, joined
from edgekd.methods.lta.network import Student, Teacher
from edgekd.methods.lta.step import LTAStep
from edgekd.runtime.errors import UsageError

SYSTEM = "LTA: distilled MSCRED with a Long-Term Accumulator; MSCRED is arXiv 1811.08055"
DEFAULT_PRESET = "joint"
CONFIG = LTAConfig


def STEP(config: LTAConfig, n_sensors: int, n_kept: int, period_s: float) -> StepModule:
    """The step module of a configuration."""
    return with_slow((JointStep if config.committee else LTAStep)(config, n_sensors, n_kept, period_s))


__all__ = ["CONFIG", "DEFAULT_PRESET", "PRESETS", "STEP", "SYSTEM", "Student", "Teacher", "train"]


def train(recording: Recording, config: LTAConfig, how: Training) -> Trained:
    """Teacher (or the one given), then student."""
    teacher, shared, histories = how.teacher, _network_of(how.shared), {}
    planned, kept = untrained(recording, config)  # a student that cannot be is refused before the teacher is trained
    if teacher is not None and not isinstance(teacher, LTAStep):
        raise UsageError(
            "the given teacher is of another method; leave out --teacher, or --method regression takes any"
        )
    if shared is not None and shared.scaler.kept.tolist() != kept.tolist():
        how.report({"note": "other sensors never change here than in the shared student: this one is trained alone"})
        teacher = shared = None
    if teacher is not None and teacher.scaler.kept.tolist() != kept.tolist():
        raise UsageError(
            f"the given teacher looks at {teacher.m} sensors, this student at {len(kept)} others or more or fewer: "
            "other sensors were constant in its training; leave out --teacher, or --set drop_constant="
            f"{str(not config.drop_constant).lower()}"
        )
    if note := too_much_state(planned):
        how.report({"note": note})
    if teacher is None and config.distill and not (how.frozen and shared is not None):
        teacher, histories["teacher"] = train_teacher(recording, config, how)
        how.keep_teacher(teacher)
    elif teacher is not None and shared is not None:
        teacher = rescaled(teacher, recording)
    student, histories["student"] = distill(recording, config, teacher, how, shared)
    step: StepModule = student
    normal: Scores | None = None
    if config.committee:
        step, normal = joined(recording, student)
    if config.slow:
        step = fit_with_slow(step, recording, normal or step.score(recording))
    return Trained(step, histories, normal)


def _network_of(step: StepModule | None) -> LTAStep | None:
    """The network in a student that may have a committee and slow monitors around it."""
    if isinstance(step, WithSlow):
        step = step.fast
    if isinstance(step, JointStep):
        step = step.each["network"]
    if step is not None and not isinstance(step, LTAStep):
        raise UsageError("the shared student is of another method; share one of lta")
    return step
