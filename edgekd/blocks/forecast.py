"""Least squares of samples on what came before them, learned from the samples that may be learned from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Stretch:
    """Samples of one entity to learn from."""

    samples: Tensor
    """float64 (T, m), scaled or standardized."""
    fitted: Tensor
    """bool (T,): which of them may be learned from."""

    def rows(self, back: int) -> Tensor:
        """int64 (N,): samples that, with their `back` predecessors, may be learned from."""
        counted = torch.cumsum(torch.cat([torch.zeros(1), self.fitted.double()]), 0)  # (T + 1,)
        whole = counted[back + 1 :] - counted[: -(back + 1)] == back + 1
        return whole.nonzero().flatten() + back


def gathered(
    stretches: Sequence[Stretch], back: int, inputs: Callable[[Tensor], Tensor], targets: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Rows to regress, (N, ...) each, of all stretches.

    inputs: samples (T, m) -> (T - back, ...), what each sample that has `back` predecessors is forecast from.
    targets: samples (T, m) -> (T, ...).
    """
    x, y = [], []
    for stretch in stretches:
        rows = stretch.rows(back)
        if len(rows):
            x.append(inputs(stretch.samples)[rows - back])
            y.append(targets(stretch.samples)[rows])
    return torch.cat(x), torch.cat(y)


def own_forecasts(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Each sensor from its own features, with intercept: x (N, j, f), y (N, j) -> weights (j, f), intercept (j,),
    residuals (N, j)."""
    center, level = x.mean(0), y.mean(0)
    x, y = x - center, y - level
    gram, moment = torch.einsum("njf,njg->jfg", x, x), torch.einsum("njf,nj->jf", x, y)
    # of a sensor that hardly moves the normal equations are singular: least norm
    weights = (torch.linalg.pinv(gram, hermitian=True) @ moment.unsqueeze(-1)).squeeze(-1)
    return weights, level - (center * weights).sum(-1), y - (x * weights).sum(-1)
