"""The detector as one step: newest window -> two networks -> how far apart their vectors are.

Everything depends on the whole window, so nothing but raw samples is carried over from hop to hop.
"""

from __future__ import annotations

from torch import Tensor

from edgekd.blocks.scaling import SampleScaler
from edgekd.blocks.score_terms import TINY
from edgekd.blocks.signature import Geometry
from edgekd.blocks.step import WindowStep
from edgekd.methods.anomalyllm.config import MINI, AnomalyLLMConfig
from edgekd.methods.anomalyllm.networks import Student, Teacher


class AnomalyLLMStep(WindowStep):
    """Teacher (or mini-teacher) and student. State: `ring`, the newest scaled samples.

    The score is the distance of two vectors of all sensors, so it has no exact share of each: they share it by the
    energy of their scaled samples, as with a `regression` student of windows.
    """

    config: AnomalyLLMConfig

    dense_weights = ("teacher.", "student.")
    # a distance is a difference: what makes the two vectors keeps its precision
    float_weights = ("teacher.embedding.", "teacher.output.", "teacher.head.output.", "student.head.output.")
    # windows are still nearly the same vector, and a rounding is met by every later block
    float_activations = ("teacher.blocks.0.",)

    score_floor = 1e-3

    def __init__(self, config: AnomalyLLMConfig, n_sensors: int, n_kept: int, period_s: float) -> None:
        super().__init__()
        self.config = config
        self.n_sensors, self.m = n_sensors, n_kept
        self.hop, self.span = config.hop, config.window
        # the three windows that a `regression` student of this detector measures
        self.geometry = Geometry((self.span // 4, self.span // 2, self.span), self.hop, 1, self.hop)
        self.entity_resets = config.entity_resets
        self.warmup_samples = -(-self.span // self.hop) * self.hop
        self.scaler = SampleScaler(n_sensors, n_kept, (-1.0, 2.0) if config.scaling == "minmax" else (-5.0, 5.0))
        self.teacher: Teacher | Student
        if config.tier == MINI:
            self.teacher = Student(config, n_kept, prototypes=False, normalize=False)
        else:
            self.teacher = Teacher(config, n_kept)
        self.student = Student(config, n_kept, prototypes=config.prototypes)

    def verdict(self, windows: Tensor, live: Tensor) -> tuple[Tensor, Tensor]:
        """Scaled windows (B, span, m), live (m,) 1 or 0 -> score (B,), contributions (B, m)."""
        windows = windows * live  # a sensor that is not live stands at its training mean
        score = distance(self.teacher(windows), self.student(windows))
        score = score * live.sum().clamp(max=1.0)  # where no sensor is live there is nothing to be said
        shares = windows.square().sum(1) + TINY * live  # (B, m)
        return score, shares * (score / shares.sum(-1).clamp_min(TINY)).unsqueeze(-1)


def distance(one: Tensor, other: Tensor) -> Tensor:
    """d, Euclidean, of vectors (B, P): (B,)."""
    return ((one - other).square().sum(-1) + TINY).sqrt()
