"""What a student learns: the teacher's score on a standardized logarithmic scale, and the way back to a score.

Source: score regression (arXiv 2310.06047) regresses the logarithm of the teacher's score with a mean absolute error.
Errors are positive and skewed over decades: on the logarithm an absolute error is a relative one, and ranks stay.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

TINY = 1e-8  # added to a score before its logarithm is taken, where a teacher has no floor of its own
LARGEST_EXPONENT = 80.0  # exp(80) is still a float32, and what is beyond the largest teacher score is an anomaly anyway


class LogScale(nn.Module):
    """Mean and deviation of the teacher's log scores on normal training data, and the way from scores to g and back."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, floor: float = TINY) -> None:
        """floor: what is added to a score before its logarithm is taken."""
        super().__init__()
        self.floor = floor
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("deviation", torch.ones(()))

    def fit(self, scores: Tensor) -> None:
        """`scores` (N,) of normal training data, positive, in the teacher's units."""
        logs = (scores.double() + self.floor).log()
        self.mean.copy_(logs.mean())
        self.deviation.copy_(logs.std(correction=0).clamp_min(1e-3))

    def follow(self, scores: Tensor, rate: float) -> None:
        """Move toward the statistics of a batch of normal scores (B,): the scale of a teacher that still learns."""
        logs = (scores.detach() + self.floor).log()
        self.mean.lerp_(logs.mean(), rate)
        variance = self.deviation.square().lerp((logs - self.mean).square().mean(), rate)
        self.deviation.copy_(variance.sqrt().clamp_min(1e-3))

    def standardize(self, scores: Tensor) -> Tensor:
        """Scores in the teacher's units -> targets y."""
        return ((scores + self.floor).log() - self.mean) / self.deviation

    def score(self, g: Tensor) -> Tensor:
        """Predicted targets g -> scores in the teacher's units: positive, finite, in the order of g."""
        return (self.mean + self.deviation * g).clamp(-LARGEST_EXPONENT, LARGEST_EXPONENT).exp()


def regression_loss(g: Tensor, y: Tensor, tail_weight: float = 0.0) -> Tensor:
    """Mean absolute error of predictions g (B,) against targets y (B,).

    `tail_weight` adds so much of a row's weight for each deviation that its target lies above the normal mean: the
    strangest scores are the ones that a detector decides on. Weights are normalized to a mean of one.
    """
    error = (g - y).abs()
    if not tail_weight:
        return error.mean()
    weight = 1.0 + tail_weight * y.clamp(0.0, 10.0)
    return (error * weight).sum() / weight.sum()
