"""The losses: near on normal windows, far on damaged ones, and a teacher that damage does not move.

Source: the authors' public code for arXiv 2401.15123; the guard against collapse is ours.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from edgekd.methods.anomalyllm.step import distance

TINY = 1e-6


def row_losses(teacher: Tensor, student: Tensor, normal: int) -> Tensor:
    """Vectors (R, P), of which the first `normal` are of undamaged windows -> the distillation loss of each row, (R,).

    A normal row's is its distance d; a damaged one's is -log(1 - exp(-d) + 1e-6), which vanishes as d grows.
    """
    d = distance(teacher, student)
    return torch.cat([d[:normal], -(TINY - torch.expm1(-d[normal:])).log()])


def contrast_loss(teacher: Tensor, normal: int) -> Tensor:
    """Sum over the damaged copies of 1 - cos between the teacher's vectors of a window and of its copy, mean over B.

    There are no negatives: nothing is pushed apart.
    """
    if len(teacher) == normal:
        return teacher.new_zeros(())
    copies = teacher[normal:].reshape(-1, normal, teacher.shape[1])  # (2, B, P)
    return (1.0 - F.cosine_similarity(teacher[:normal].unsqueeze(0), copies, dim=-1)).sum(0).mean()


def collapse_loss(teacher: Tensor, spread: float) -> Tensor:
    """Mean of max(0, 1 - deviation) of the teacher's features over the batch, where they deviate by less than `spread`
    on average: both networks could meet the distillation loss by giving every window one vector."""
    deviation = (teacher.var(0, correction=0) + TINY).sqrt()
    if deviation.mean() >= spread:
        return teacher.new_zeros(())
    return F.relu(1.0 - deviation).mean()


def soft_boundary(rows: Tensor, radius: Tensor, nu: float) -> Tensor:
    """R + (1 / nu) * mean of what is beyond R, instead of the mean of the rows."""
    return radius + F.relu(rows - radius).mean() / nu
