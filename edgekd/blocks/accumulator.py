"""The Long-Term Accumulator: a small recurrent cell over the whole history, and the matrix made from its state.

The published facts are an RNN, LSTM or GRU, a summary of length 10, and a signature matrix beta of the summary that is
added to the student's input, S = M + beta; the last state of one window starts the next. How a summary becomes an
n x n matrix is not published: `variant` says how it is done here.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

CELLS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
SUMMARY = 10  # length of the summary, published


class Accumulator(nn.Module):
    """State of everything seen so far, and its matrix beta (m, m).

    `variant`:
      per_variable   one cell 1 -> 10, shared by all sensors; beta = V V' / 10 with V (m, 10)   (130 parameters as RNN)
      vector         one cell m -> 10 and a linear map to U (m, rank); beta = U U' / rank
      pseudo_window  one cell m -> m; beta = the signature matrix of its last 10 hidden vectors

    `moments`: with them beta is (steps, m, m), the matrices of the state so many samples before the newest, the last
    one of them 0; states are then taken every `block` samples, which divides them and whatever is read at once.

    Zeros are the cold start.
    """

    def __init__(
        self,
        n: int,
        cell: str,
        variant: str = "per_variable",
        rank: int = 2,
        moments: tuple[int, ...] = (),
        block: int = 1,
    ) -> None:
        super().__init__()
        if cell not in CELLS or variant not in ("per_variable", "vector", "pseudo_window"):
            raise ValueError(f"unknown accumulator {cell!r} / {variant!r}")
        self.n, self.variant, self.rank = n, variant, rank
        inputs, hidden = {"per_variable": (1, SUMMARY), "vector": (n, SUMMARY), "pseudo_window": (n, n)}[variant]
        self.cell = CELLS[cell](inputs, hidden, batch_first=True)
        self.rows = n if variant == "per_variable" else 1
        self.hidden = hidden
        self.has_cell_state = cell == "lstm"
        self.told = -1 if variant == "pseudo_window" else 0  # place, in the state of now, of what beta is made of
        self.block, self.back = block, tuple(moment // block for moment in moments)  # blocks before the newest one
        if variant == "vector":
            self.to_matrix = nn.Linear(SUMMARY, n * rank)

    def state_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of each state tensor of one stream."""
        shapes: dict[str, tuple[int, ...]] = {"lta_h": (self.rows, self.hidden)}
        if self.has_cell_state:
            shapes["lta_c"] = (self.rows, self.hidden)
        if self.variant == "pseudo_window":
            shapes["lta_recent"] = (SUMMARY, self.n)
        if self.back:
            shapes["lta_past"] = (max(self.back), *self._told_shape())
        return shapes

    def forward(self, samples: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """samples (lanes, T, m) scaled, state tensors (lanes, *shape) -> the state after the last sample."""
        if not self.back:
            return self._advance(samples, state)
        *now, past = state
        told = [past]
        for block in samples.split(self.block, 1):
            told.append(now[self.told].unsqueeze(1))
            now = list(self._advance(block, tuple(now)))
        return (*now, torch.cat(told, 1)[:, -past.shape[1] :])

    def beta(self, *state: Tensor) -> Tensor:
        """State tensors (lanes, *shape) -> (lanes, m, m), symmetric, positive semidefinite; (lanes, steps, m, m) with
        moments."""
        if not self.back:
            return self._matrix(state[self.told])
        *now, past = state
        told = torch.cat([past, now[self.told].unsqueeze(1)], 1)
        return self._matrices(told[:, [past.shape[1] - blocks for blocks in self.back]])

    def betas(self, samples: Tensor, every: int) -> Tensor:
        """One stream from its cold start: samples (T, m) -> beta after each `every` samples, (T // every, m, m) or
        (T // every, steps, m, m)."""
        zeros = [torch.zeros(1, *shape) for shape in self.state_shapes().values()]
        outputs, _ = self._run(samples.unsqueeze(0), tuple(zeros))
        ends = torch.arange(every, len(samples) + 1, every)
        if not self.back:
            return self._matrix(self._told(outputs, ends))
        told = torch.cat(
            [
                torch.zeros(1, *self._told_shape()),
                self._told(outputs, torch.arange(self.block, len(samples) + 1, self.block)),
            ]
        )
        at = ends[:, None] // self.block - torch.tensor(self.back)  # (ends, steps)
        return self._matrices(told[at.clamp_min(0)])

    def _advance(self, samples: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """`forward` without what is kept of the past."""
        lanes, length, _ = samples.shape
        outputs, last = self._run(samples, state)
        if self.variant != "pseudo_window":
            return last
        recent = torch.cat([state[-1], outputs.reshape(lanes, length, self.n)], 1)[:, -SUMMARY:]
        return (*last, recent)

    def _told_shape(self) -> tuple[int, int]:
        """Of the state that beta is made of."""
        return (SUMMARY, self.n) if self.variant == "pseudo_window" else (self.rows, self.hidden)

    def _told(self, outputs: Tensor, ends: Tensor) -> Tensor:
        """Every hidden vector (rows, T, hidden) of one stream -> what beta is made of after `ends` samples."""
        if self.variant != "pseudo_window":
            return outputs[:, ends - 1].transpose(0, 1)  # (ends, rows, hidden)
        padded = torch.cat([torch.zeros(SUMMARY, self.n), outputs[0]])  # (10 + T, m)
        return padded[ends[:, None] + torch.arange(SUMMARY)]  # (ends, 10, m)

    def _matrices(self, told: Tensor) -> Tensor:
        """(batch, steps, ...) -> (batch, steps, m, m)."""
        return self._matrix(told.flatten(0, 1)).unflatten(0, told.shape[:2])

    def _matrix(self, summary: Tensor) -> Tensor:
        """What beta is made of: (batch, rows, 10), or (batch, 10, m) -> (batch, m, m)."""
        if self.variant == "pseudo_window":
            return summary.transpose(1, 2) @ summary / SUMMARY
        if self.variant == "per_variable":
            return summary @ summary.transpose(1, 2) / SUMMARY
        factors = self.to_matrix(summary[:, 0]).reshape(-1, self.n, self.rank)
        return factors @ factors.transpose(1, 2) / self.rank

    def _run(self, samples: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Every hidden vector (lanes * rows, T, hidden) and the last state, each (lanes, rows, hidden)."""
        lanes, length, n = samples.shape
        rows = samples
        if self.variant == "per_variable":  # one row a sensor, since all of them share the cell
            rows = samples.transpose(1, 2).reshape(lanes * n, length, 1)
        initial = tuple(
            tensor.reshape(1, lanes * self.rows, self.hidden) for tensor in state[: 1 + self.has_cell_state]
        )
        outputs, last = self.cell(rows, initial if self.has_cell_state else initial[0])
        last = last if self.has_cell_state else (last,)
        return outputs, tuple(tensor.reshape(lanes, self.rows, self.hidden) for tensor in last)
