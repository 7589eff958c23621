"""`patches`: how far a patch's embedding is from those of normal patches, taught to a small student.

config.py   settings and presets
step.py     the teacher as one step: encoder, memory, score; learn.py trains it

The student is one of `edgekd.methods.regression`, and is taught as any of them.
"""

from __future__ import annotations

from dataclasses import replace

from edgekd.blocks.step import StepModule
from edgekd.data.recording import Recording
from edgekd.methods.interface import Trained, Training
from edgekd.methods.patches.config import PRESETS, TEACHER, PatchesConfig
from edgekd.methods.patches.step import PatchStep
from edgekd.methods.regression.series import SeriesStep
from edgekd.runtime.errors import UsageError

SYSTEM = "PaAno: distance of a patch's embedding from a memory of normal patches, arXiv 2602.01359"
DEFAULT_PRESET = "patches"
CONFIG = PatchesConfig
__all__ = ["CONFIG", "DEFAULT_PRESET", "PRESETS", "STEP", "SYSTEM", "train"]


def STEP(config: PatchesConfig, n_sensors: int, n_kept: int, period_s: float) -> StepModule:
    """The step module of a configuration: the teacher's, or the student's."""
    return (PatchStep if config.detector == TEACHER else SeriesStep)(config, n_sensors, n_kept, period_s)


def train(recording: Recording, config: PatchesConfig, how: Training) -> Trained:
    """Teacher (or the one given), then student."""
    from edgekd.methods.patches.learn import train_teacher
    from edgekd.methods.regression.series_train import train_series

    teacher, histories = how.teacher, {}
    if teacher is not None and not isinstance(teacher, PatchStep):
        raise UsageError(
            "the given teacher is of another method; leave out --teacher, or --method regression takes any"
        )
    if teacher is None:
        teacher, histories["teacher"] = train_teacher(recording, config, how)
        how.keep_teacher(teacher)
    if config.detector == TEACHER:
        return Trained(teacher, histories)
    taught = train_series(recording, config, replace(how, teacher=teacher, teachers=(teacher,)))
    return Trained(taught.step, {**histories, **taught.histories})
