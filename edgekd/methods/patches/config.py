"""Configuration of `patches`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from edgekd.blocks.signature import Geometry
from edgekd.methods.settings import LONGEST, read_settings

STUDENT, TEACHER = "student", "teacher"


@dataclass(frozen=True)
class PatchesConfig:
    """One detector and its training. Lengths are in samples."""

    detector: str = STUDENT
    """"student", or the "teacher" itself."""
    patch: int = 36
    """Samples of one patch. Published: 96, which dilutes what is short."""
    hop: int = 0
    """Distance between scored patches; 0 takes that of the sampling period."""
    judged: tuple[str, ...] | None = None
    """Names of the sensors that are looked at; None looks at all that are not constant in training."""
    teacher_width: int = 32
    """Channels of the first layer of the teacher's encoder; the four have 1, 2, 1 and 1/2 times as many ..."""
    width: int = 16
    """... and of the student's."""
    memory: int = 32
    """Patches that are kept of each sensor; a patch is compared with the nearest. Published: the three nearest."""
    iterations: int = 200
    """Batches that train the teacher, as published ..."""
    updates: int = 400
    """... and the student."""
    learning_rate: float = 1e-3

    def hop_at(self, period_s: float) -> int:
        return self.hop or Geometry.from_period(period_s).hop

    def teacher(self) -> PatchesConfig:
        """The teacher that belongs to a student."""
        return replace(self, detector=TEACHER)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> PatchesConfig:
        """Settings by name over the defaults; raises UsageError naming the one that cannot be."""
        return read_settings(cls, "patches", values, {"detector": (STUDENT, TEACHER)}, RANGES)


RANGES = {
    "patch": (24, 4096), "hop": (0, LONGEST), "teacher_width": (2, 1024), "width": (2, 1024), "memory": (1, 4096),
    "iterations": (1, 1_000_000), "updates": (1, 1_000_000), "learning_rate": (1e-8, 10.0),
}  # fmt: skip

PRESETS = {"patches": PatchesConfig()}
