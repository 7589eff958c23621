"""Configuration of score regression: what the student sees, which student it is, and how it is taught."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from edgekd.blocks.signature import Geometry
from edgekd.methods.regression.networks import LADDER, LEAK
from edgekd.methods.settings import LONGEST, read_settings
from edgekd.runtime.errors import UsageError

AUTOENCODER = "autoencoder"
ENERGIES = "energies"


@dataclass(frozen=True)
class RegressionConfig:
    """One detector and its training. Lengths are in samples unless the name says otherwise."""

    input: str = "signature"
    """"signature" matrices of a series, those of its "innovations" (what each sensor's own last values do not tell),
    its "window", or an "image" (one hop of a recording of images)."""
    student: str = "our-S3"
    """A rung of the ladder; "energies", of a series only, which measures energies instead of convolving; "autoencoder"
    is the image teacher itself, which scores by its reconstruction error."""

    leak: float = LEAK
    """Slope of a convolutional student's hidden dense layer below zero; with 0, ReLU, strange inputs may tie."""

    # images
    rows: int = 0
    """Rows of one image; 0 takes as many as it has columns."""
    false_alarm_rate: float = 0.01
    """Share of normal images above the threshold."""

    # series
    lengths: tuple[int, int, int] | None = None
    """Window lengths of the three scales; None takes the teacher's, or else those of the sampling period (one hour)."""
    hop: int = 0
    """Distance between scored windows; 0 takes the teacher's where lengths are its own, else the shortest length."""
    entity_resets: bool = True
    scaling: str = "minmax"
    """"minmax" or "zscore" of the samples."""
    standardize: str = "element"
    """Signature matrices as they are ("none"), or by each "element"'s or one "global" training deviation."""
    drop_constant: bool = True
    """Keep sensors that are constant in training out of the input."""
    accumulator: str = "none"
    """"none", "rnn", "gru" or "lstm": whether a long-term accumulator's matrix is added to the signature matrices."""
    lts: str = "per_variable"
    """How the accumulator's summary becomes a matrix, see `edgekd.blocks.accumulator`."""
    damaged_copies: int = 1
    """Copies with damage laid into them of the training recording, each time it is scored; the teacher scores them as
    outliers."""
    windows: int = 0
    """So many windows are scored where a recording has them: with fewer, one a hop, the teacher scores it again, each
    time begun a part of a hop later. A file of scores is taken once."""
    lanes: int = 16
    """With an accumulator: pieces of the recording that train side by side ..."""
    truncate_hops: int = 8
    """... and hops of truncated back-propagation through it."""

    # targets and losses
    co_learning: bool = False
    """Train teacher and student together: the student follows a teacher that still learns."""
    alpha: float = 1.0
    """Weight of the student's loss beside the teacher's in co-learning. No gradient goes from student to teacher."""
    target_rate: float = 0.01
    """How fast the targets' mean and deviation follow the teacher in co-learning."""
    outlier_share: float = 0.25
    """rho: part of each student batch that comes from the outliers, where there are some."""
    noise: str = "none"
    """Outliers made from normal inputs, instead of or beside a set of them: "gaussian", "salt-and-pepper", "erase",
    "shuffle", or one of these at random ("mixed")."""
    floor: float = 0.0
    """Added to a score before its logarithm is taken; 0 takes the teacher's own, or 1e-8."""
    tail_weight: float = 0.0
    """Additional weight of a row for each deviation that its target lies above the normal mean."""

    # training
    epochs: int = 40
    updates: int = 0
    """At least so many batches, in as many epochs more: a short recording has few an epoch."""
    teacher_epochs: int = 30
    patience: int = 40
    learning_rate: float = 1e-3
    teacher_learning_rate: float = 1e-3
    schedule: str = "one-cycle"
    """"constant" as in the published follow-up, or "one-cycle", which needs a third of the epochs."""
    batch: int = 128
    """Rows of a student batch, outliers among them; 128 for sets of some thousand inputs."""
    teacher_batch: int = 128

    @property
    def is_image(self) -> bool:
        return self.input == "image"

    def geometry(self, period_s: float) -> Geometry:
        """Windows of a series at a sampling period."""
        if self.lengths is None:
            return Geometry.from_period(period_s, steps=1)
        gap = min(self.lengths)
        return Geometry(self.lengths, gap, 1, self.hop or gap)

    def teacher(self) -> RegressionConfig:
        """The autoencoder that belongs to an image student."""
        return replace(self, student=AUTOENCODER)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> RegressionConfig:
        """Settings by name over the defaults; raises UsageError naming the one that cannot be."""
        config = read_settings(cls, "regression", values, CHOICES, RANGES)
        if config.student == (ENERGIES if config.is_image else AUTOENCODER):
            raise UsageError(
                f"setting student: {config.student} is for {'a series' if config.is_image else 'images'}, the input is "
                f"{config.input}; choose {', '.join(LADDER)}"
            )
        if config.accumulator != "none" and config.input not in ("signature", "innovations"):
            raise UsageError("setting accumulator: its matrix is added to signature matrices; set input=signature")
        return config


CHOICES = {
    "input": ("signature", "innovations", "window", "image"),
    "student": (*LADDER, ENERGIES, AUTOENCODER),
    "scaling": ("minmax", "zscore"),
    "standardize": ("none", "element", "global"),
    "accumulator": ("none", "rnn", "lstm", "gru"),
    "lts": ("per_variable", "vector", "pseudo_window"),
    "noise": ("none", "gaussian", "salt-and-pepper", "erase", "shuffle", "mixed"),
    "schedule": ("constant", "one-cycle"),
}

RANGES = {
    "rows": (0, LONGEST), "false_alarm_rate": (1e-6, 0.5), "hop": (0, LONGEST), "alpha": (0.0, 1e3),
    "target_rate": (1e-6, 1.0), "outlier_share": (0.0, 0.9), "leak": (0.0, 1.0), "tail_weight": (0.0, 1e3),
    "floor": (0.0, 1e6), "epochs": (1, 100_000), "updates": (0, 10_000_000), "damaged_copies": (0, 16),
    "windows": (0, 10_000_000),
    "lanes": (1, 4096), "truncate_hops": (1, 4096), "teacher_epochs": (1, 100_000), "patience": (1, 100_000),
    "learning_rate": (1e-8, 10.0), "teacher_learning_rate": (1e-8, 10.0), "batch": (2, 65_536),
    "teacher_batch": (1, 65_536),
}  # fmt: skip

# of a series: on three machines a student of energies came closest to its teachers, and the tail's weight brought more
# than it cost
SERIES = RegressionConfig(student=ENERGIES, tail_weight=1.0, learning_rate=3e-3, epochs=20, patience=20)
PRESETS = {
    "signature": SERIES,
    "window": replace(SERIES, input="window"),
    # where the shape of a window counts and not its energy: what a gateway runs in place of AnomalyLLM
    "shape": replace(SERIES, input="window", student="our-S6", windows=8192, updates=2000),
    "image": RegressionConfig(input="image"),
}
