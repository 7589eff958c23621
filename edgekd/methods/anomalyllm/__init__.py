"""`anomalyllm`: how far a small student with prototypes is from a language model tells how strange a window is.

config.py            settings and presets
blocks.py            transformer blocks; networks.py the teacher and the student made of them; weights.py the language
                     model's weights
damaged_windows.py   what the students see beside normal windows; losses.py what both networks are trained by; jobs.py
                     an epoch; distill.py a training
step.py              the detector as one step
"""

from __future__ import annotations

from edgekd.data.recording import Recording
from edgekd.methods.anomalyllm.config import FULL, MINI, PRESETS, AnomalyLLMConfig
from edgekd.methods.anomalyllm.step import AnomalyLLMStep
from edgekd.methods.interface import Trained, Training
from edgekd.runtime.errors import UsageError

SYSTEM = "AnomalyLLM: discrepancy of a prototype student from a language model, arXiv 2401.15123"
DEFAULT_PRESET = "edge"
CONFIG = AnomalyLLMConfig
STEP = AnomalyLLMStep
__all__ = ["CONFIG", "DEFAULT_PRESET", "PRESETS", "STEP", "SYSTEM", "train"]


def train(recording: Recording, config: AnomalyLLMConfig, how: Training) -> Trained:
    """Both networks together; with tier "mini" then the network that takes the language model's place."""
    from edgekd.methods.anomalyllm.distill import train_both, train_mini

    full, histories = how.teacher, {}
    if full is not None and config.tier != MINI:
        raise UsageError("AnomalyLLM trains its teacher with the student; leave out --teacher, or --set tier=mini")
    if full is not None and (not isinstance(full, AnomalyLLMStep) or full.config.tier != FULL):
        raise UsageError(
            "a mini-teacher is made of a full detector; leave out --teacher, or give one of --method anomalyllm"
        )
    if full is None:
        full, histories["student"] = train_both(recording, config, how)
        if config.tier == FULL:
            return Trained(full, histories)
        how.keep_teacher(full)
    step, histories["mini-teacher"] = train_mini(recording, config, full, how)
    return Trained(step, histories)
