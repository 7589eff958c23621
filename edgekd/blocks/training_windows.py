"""The training recording as scaled samples to cut windows from, and as lanes to run state along."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from edgekd.blocks.accumulator import Accumulator
from edgekd.blocks.threshold import FIT, parts
from edgekd.data.recording import Recording
from edgekd.runtime.errors import RecordingError


class TrainingStream:
    """Scaled samples of every stretch that state runs through, each behind `pad` rows of zeros: the cold start.

    A position is a row of `buffer` one past the newest sample of a window, so a window never reaches another stretch.
    """

    def __init__(
        self,
        shown: Callable[[Tensor], Tensor],
        recording: Recording,
        stretches: list[tuple[int, int]],
        pad: int,
        hop: int,
    ) -> None:
        """shown: what a detector sees of an entity, values (T, n) -> (T, m), see `StepModule.all_shown`."""
        self.hop = hop
        part = parts(recording)
        rows: list[Tensor] = []
        positions, ages, kinds = [], [], []
        offset = 0
        for start, end in stretches:
            scaled = shown(torch.from_numpy(recording.values[start:end]))
            rows += [torch.zeros(pad, scaled.shape[1]), scaled]
            offset += pad
            age = np.arange(hop, end - start + 1, hop)  # samples of the stretch seen at each window's end
            positions.append(offset + age)
            ages.append(age)
            kinds.append(part[start + age - 1])
            offset += end - start
        self.source = recording.source or "recording"
        self.buffer = torch.cat(rows)  # (rows, m)
        self.positions = np.concatenate(positions)
        """int64 (windows,): every window end, a hop apart from the start of its stretch, in order."""
        self.ages = np.concatenate(ages)
        """int64 (windows,): samples of its stretch that each has seen."""
        self.parts = np.concatenate(kinds)
        """int8 (windows,): the part of its newest sample, see `edgekd.blocks.threshold`."""

    def to(self, device: str) -> TrainingStream:
        """Move the samples; windows are where the samples are."""
        self.buffer = self.buffer.to(device)
        return self

    def windows(self, positions: Tensor, span: int) -> Tensor:
        """positions (...,) -> the `span` samples that end there, (..., span, m)."""
        return self.buffer[positions.unsqueeze(-1) + torch.arange(-span, 0)]


def require_some(stream: TrainingStream, counted: np.ndarray, samples: int, part: int) -> None:
    """Raise RecordingError unless a window of one part counts: a training without one would end as it began."""
    if not counted.any():
        use = "trains" if part == FIT else "tells when to stop"
        raise RecordingError(
            f"{stream.source}: no window of {samples} samples, one each {stream.hop}, ends in the part that {use}; "
            "record longer, or choose shorter windows or a smaller training hop"
        )


@dataclass(frozen=True)
class Lanes:
    """A stream cut into equally long contiguous lanes; a training step advances every lane by one hop."""

    positions: Tensor
    """int64 (hops, lanes)."""
    fresh: Tensor
    """bool (hops, lanes): state is zeroed before this hop (a lane or a stretch begins)."""
    trained: Tensor
    """bool (hops, lanes): the hop counts in the loss: window and state are warm, its sample is to be fitted."""

    @classmethod
    def cut(cls, stream: TrainingStream, part: int, lanes: int, warm_samples: int, stateful: bool) -> Lanes:
        """Lanes over the windows of one part and the hops before it that warm it up.

        A window counts `warm_samples` after the start of its stretch or, where state is carried, of its lane.
        """
        wanted = stream.parts == part
        require_some(stream, wanted, warm_samples, part)
        lead = -(-warm_samples // stream.hop)
        chosen = np.flatnonzero(np.convolve(wanted[::-1], np.ones(lead + 1))[: len(wanted)][::-1] > 0)
        # a lane spends at most half of its hops on warming up
        lanes = max(1, min(lanes, len(chosen) // max(32, 2 * lead)))
        hops = -(-len(chosen) // lanes)
        grid = np.resize(chosen, hops * lanes).reshape(lanes, hops)  # one row a lane
        filler = np.arange(hops * lanes).reshape(lanes, hops) >= len(chosen)
        fresh = np.ones((lanes, hops), bool)
        # a hop goes on from the one before where it is the next window of the same stretch
        fresh[:, 1:] = stream.positions[grid[:, 1:]] - stream.positions[grid[:, :-1]] != stream.hop
        seen = stream.ages[grid]
        if stateful:
            first = np.maximum.accumulate(np.where(fresh, np.arange(hops), 0), axis=1)
            seen = (np.arange(hops) - first + 1) * stream.hop
        trained = wanted[grid] & ~filler & (seen >= warm_samples)
        require_some(stream, trained, warm_samples, part)
        return cls(
            *(torch.from_numpy(np.ascontiguousarray(rows.T)) for rows in (stream.positions[grid], fresh, trained))
        )


def reset(state: list[Tensor], fresh: Tensor) -> list[Tensor]:
    """State (lanes, ...) with zeros where a lane begins anew, `fresh` bool (lanes,)."""
    if not bool(fresh.any()):
        return state
    return [tensor * (~fresh).to(tensor.device).reshape(-1, *[1] * (tensor.dim() - 1)) for tensor in state]


def betas_along(
    accumulator: Accumulator,
    stream: TrainingStream,
    lanes: Lanes,
    rows: slice,
    state: list[Tensor],
    reads: int | None = None,
) -> tuple[list[Tensor], list[Tensor]]:
    """The accumulator over the new samples (or the newest `reads`) of hops `rows` of every lane: beta after each
    (lanes, m, m), and its state after the last."""
    betas = []
    for positions, fresh in zip(lanes.positions[rows], lanes.fresh[rows]):
        state = list(accumulator(stream.windows(positions, reads or stream.hop), *reset(state, fresh)))
        betas.append(accumulator.beta(*state))
    return betas, state


def matrix_statistics(matrices: Callable[[Tensor], Tensor], stream: TrainingStream, span: int) -> tuple[Tensor, Tensor]:
    """Mean and deviation (3, m, m), float64, of the newest signature matrices of all windows of `span` that train."""
    wanted = (stream.parts == FIT) & (stream.ages >= span)
    total = square = torch.zeros(1, dtype=torch.float64)
    for positions in torch.from_numpy(stream.positions[wanted]).split(64):
        newest = matrices(stream.windows(positions, span))[:, -1].double()  # (B, 3, m, m)
        total, square = total + newest.sum(0), square + newest.square().sum(0)
    mean = total / wanted.sum()
    return mean, (square / wanted.sum() - mean.square()).clamp_min(0.0).sqrt()
