"""Configuration of the linear detectors: small, exact, fitted in seconds, and the yardstick of every network."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from edgekd.blocks.signature import Geometry
from edgekd.methods.settings import LONGEST, read_settings
from edgekd.runtime.errors import UsageError

INNOVATIONS = "innovations"
TERMS = {
    "mahalanobis": ("mahalanobis",),
    "sample-pca": ("sample_pca",),
    "signature-pca": ("signature_pca",),
    "signature-energy": ("signature_energy",),
    "ensemble": ("signature_pca", "mahalanobis"),
    INNOVATIONS: ("own_lags", "own_ahead", "levels", "all_lags"),
}
FIXED = ("input", "recent", "ridge", "sample_components", "signature_components")
"""Settings that the committee of innovations has fixed values of its own for."""
CHOICES = {"detector": tuple(TERMS), "input": ("samples", "innovations"), "scaling": ("minmax", "zscore")}
RANGES = {
    "hop": (0, LONGEST), "recent": (1, LONGEST), "ridge": (1e-9, 1e3), "sample_components": (0, 4096),
    "signature_components": (1, 4096), "cycle_hops": (0, LONGEST),
}  # fmt: skip


@dataclass(frozen=True)
class LinearConfig:
    """One linear detector. Lengths are in samples."""

    detector: str = "ensemble"
    """A key of `TERMS`; several terms are combined by their geometric mean."""
    lengths: tuple[int, int, int] | None = None
    """Window lengths of the three scales; None takes them from the sampling period (one hour, 20..60)."""
    hop: int = 0
    """Distance between scored windows; 0 takes the shortest window."""
    input: str = "samples"
    """"samples" as they are scaled, or their "innovations": what each sensor's own last values do not tell."""
    scaling: str = "minmax"
    """"minmax" or "zscore" of the samples; distances between samples are the same for both but for the clip."""
    recent: int = 10
    """Newest samples whose distance or residual is averaged."""
    ridge: float = 0.01
    """Added to the variances before the precision matrix is taken."""
    sample_components: int = 10
    signature_components: int = 20
    drop_constant: bool = True
    judged: tuple[str, ...] | None = None
    """Names of the sensors that the score is about, None for all; they are looked at although constant in training."""
    entity_resets: bool = True
    slow: bool = False
    """Watch for slow faults too (`edgekd.blocks.slow`), where the recording shows what is normal for them."""
    cycle_hops: int = 0
    """Length of the cycle that the slow monitors found; training sets it."""

    def geometry(self, period_s: float) -> Geometry:
        if self.lengths is None:
            return Geometry.from_period(period_s, steps=1)
        gap = min(self.lengths)
        return Geometry(self.lengths, gap, 1, self.hop or gap)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> LinearConfig:
        """Settings by name over the defaults; raises UsageError naming the one that cannot be."""
        config = read_settings(cls, "linear", values, CHOICES, RANGES)
        for name in FIXED if config.detector == INNOVATIONS else ():
            if getattr(config, name) != getattr(cls(), name):
                raise UsageError(f"setting {name}: has no part in {INNOVATIONS}; leave it out")
        return config


PRESETS = {name: LinearConfig(detector=name, slow=name == INNOVATIONS) for name in TERMS}
