"""Configuration of `patches`: the teacher's patches, encoder and memory; the student is one of `regression`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from edgekd.blocks.signature import Geometry
from edgekd.methods.regression.config import CHOICES, RANGES, RegressionConfig
from edgekd.methods.settings import read_settings

STUDENT, TEACHER = "student", "teacher"


@dataclass(frozen=True)
class PatchesConfig(RegressionConfig):
    """One detector and its training. Lengths are in samples; what is not named here is the student's."""

    detector: str = STUDENT
    """"student", or the "teacher" itself."""
    patch: int = 36
    """Samples of one patch. Published: 96; a shorter one tells sooner, and its score ends sooner."""
    width: int = 64
    """Channels of the encoder's first layer; the four have 1, 2, 1 and 1/2 times as many. Published: 128."""
    revin: bool = False
    """Take each sensor's mean and deviation out of every patch, as published; what a level says is lost."""
    iterations: int = 200
    """Batches of `teacher_batch` patches that train the encoder, as published."""
    memory: int = 0
    """Patches that are kept; 0 keeps a tenth of those that train, 500 where there are as many, as published."""
    nearest: int = 3
    """Kept patches that a patch is compared with, as published."""

    def geometry(self, period_s: float) -> Geometry:
        """The student looks at the patch, its newest third and its newest sixth."""
        lengths = (self.patch // 6, self.patch // 3, self.patch)
        return Geometry(lengths, lengths[0], 1, self.hop or Geometry.from_period(period_s, steps=1).hop)

    def teacher(self) -> PatchesConfig:
        """The teacher that belongs to a student."""
        return replace(self, detector=TEACHER)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> PatchesConfig:
        """Settings by name over the defaults; raises UsageError naming the one that cannot be."""
        choices = {**CHOICES, "detector": (STUDENT, TEACHER), "input": ("signature", "innovations", "window")}
        return read_settings(cls, "patches", values, choices, {**RANGES, **OWN_RANGES})


OWN_RANGES = {
    "patch": (24, 4096), "width": (2, 1024), "iterations": (1, 1_000_000), "memory": (0, 100_000), "nearest": (1, 100),
}  # fmt: skip

PRESETS = {
    "patches": PatchesConfig(
        input="window", student="our-S6", windows=2048, updates=600, tail_weight=1.0, teacher_batch=32,
        teacher_learning_rate=1e-4,
    )
}  # fmt: skip
