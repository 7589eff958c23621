"""`patches`: how far a patch's embedding is from those of normal patches; a small encoder learns a larger one's.

config.py   settings and presets
step.py     the detector as one step: encoder, memory, score
learn.py    how the teacher and its student are trained
"""

from __future__ import annotations

from edgekd.data.recording import Recording
from edgekd.methods.interface import Trained, Training
from edgekd.methods.patches.config import PRESETS, TEACHER, PatchesConfig
from edgekd.methods.patches.step import PatchStep
from edgekd.runtime.errors import UsageError

SYSTEM = "PaAno: distance of a patch's embedding from a memory of normal patches, arXiv 2602.01359"
DEFAULT_PRESET = "patches"
CONFIG = PatchesConfig
STEP = PatchStep
__all__ = ["CONFIG", "DEFAULT_PRESET", "PRESETS", "STEP", "SYSTEM", "train"]


def train(recording: Recording, config: PatchesConfig, how: Training) -> Trained:
    """Teacher (or the one given), then student."""
    from edgekd.methods.patches.learn import trained

    teacher, histories = how.teacher, {}
    if teacher is not None and not isinstance(teacher, PatchStep):
        raise UsageError(
            "the given teacher is of another method; leave out --teacher, or --method regression takes any"
        )
    if teacher is None:
        teacher, histories["teacher"] = trained(recording, config.teacher(), how)
        if config.detector == TEACHER:
            return Trained(teacher, histories)
        how.keep_teacher(teacher)
    student, histories["student"] = trained(recording, config, how, teacher)
    return Trained(student, histories)
