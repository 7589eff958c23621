"""`linear`: Mahalanobis distance, PCA on samples and on signature matrices, energy of standardized signatures."""

from __future__ import annotations

from edgekd.blocks.step import Scores, StepModule
from edgekd.blocks.with_slow import fit_with_slow, with_slow
from edgekd.data.recording import Recording
from edgekd.methods.interface import Trained, Training
from edgekd.methods.linear.config import INNOVATIONS, PRESETS, LinearConfig
from edgekd.methods.linear.cross_fit import cross_fitted
from edgekd.methods.linear.fit import fit_linear
from edgekd.methods.linear.innovations import InnovationsStep, fit_innovations
from edgekd.methods.linear.step import LinearStep
from edgekd.runtime.errors import UsageError

SYSTEM = "linear detectors on samples and signature matrices (the yardstick; no published system)"
DEFAULT_PRESET = "innovations"
CONFIG = LinearConfig


def STEP(config: LinearConfig, n_sensors: int, n_kept: int, period_s: float) -> StepModule:
    """The step module of a configuration."""
    kind = InnovationsStep if config.detector == INNOVATIONS else LinearStep
    return with_slow(kind(config, n_sensors, n_kept, period_s))


__all__ = ["CONFIG", "DEFAULT_PRESET", "PRESETS", "STEP", "SYSTEM", "train"]


def train(recording: Recording, config: LinearConfig, how: Training) -> Trained:
    """Fit; a linear detector has no teacher."""
    if how.teacher is not None:
        raise UsageError("a linear detector is fitted, not distilled; leave out --teacher")
    step: StepModule
    normal: Scores | None
    if config.detector == INNOVATIONS:
        step, normal = fit_innovations(recording, config)
    else:
        step, normal = fit_linear(recording, config, how.seed), cross_fitted(recording, config, how.seed)
    if config.slow:
        step = fit_with_slow(step, recording, normal or step.score(recording))
    return Trained(step, {}, normal)
