"""What one epoch is for a student of a series: batches of normal windows, and of outliers beside them.

Without an accumulator the windows are shuffled. With one they are met in order, along lanes that carry its state.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from edgekd.blocks.threshold import CALIBRATE, FIT
from edgekd.blocks.training_windows import Lanes, TrainingStream, betas_along
from edgekd.methods.regression.score_scale import regression_loss
from edgekd.methods.regression.series import SeriesStep
from edgekd.runtime.errors import RecordingError
from edgekd.training import generator, learning_rate, length, set_rate

HELD = 512  # windows, spread evenly, that tell the epochs apart
CLIP_NORM = 1.0
OUTLIER_STREAM = 7919  # random numbers of the outliers are not those of the order of the normal windows


@dataclass
class Taught:
    """A stream whose windows a teacher has scored."""

    stream: TrainingStream
    targets: Tensor
    """float32 (windows,): standardized log score of each window of the stream, NaN where there is none."""

    def chosen(self, part: int, warm_samples: int) -> Tensor:
        """Numbers of the windows of one part that are warm and have a target, int64."""
        stream = self.stream
        known = self.targets.isfinite().cpu().numpy()
        return torch.from_numpy(np.flatnonzero((stream.parts == part) & (stream.ages >= warm_samples) & known))

    def to(self, device: str) -> Taught:
        self.stream.to(device)
        self.targets = self.targets.to(device)
        return self


@dataclass
class Rows:
    """Some windows of one stream: their numbers, and the accumulator's matrix of each."""

    taught: Taught
    numbers: Tensor
    beta: Tensor | None = None


class SeriesJob:
    """One student; see `edgekd.training.Job`."""

    name = "student"
    module: nn.Module
    optimizer: torch.optim.Optimizer

    def __init__(self, step: SeriesStep, normal: Taught, outliers: Taught | None, seed: int) -> None:
        """outliers: None where the teacher could score none."""
        self.step, self.config, self.seed = step, step.config, seed
        self.device = normal.stream.buffer.device
        modules: dict[str, nn.Module] = {"network": step.network}
        if step.accumulator is not None:
            modules["accumulator"] = step.accumulator
        self.module = nn.ModuleDict(modules).to(self.device)
        self.optimizer = torch.optim.Adam(self.module.parameters(), lr=self.config.learning_rate)
        self.live = torch.ones(step.m, device=self.device)
        self.share = 0.0 if outliers is None else self.config.outlier_share
        self.groups = [(normal, 1.0 - self.share)]
        if outliers is not None and self.share:
            self.groups.append((outliers, self.share))
        self.train, self.held = ([self._some(taught, part) for taught, _ in self.groups] for part in (FIT, CALIBRATE))
        _, batches, _ = next(self._batches(0))
        config = self.config
        self.epochs, self.patience = length(config.epochs, config.patience, config.updates, batches)

    def _some(self, taught: Taught, part: int) -> Tensor:
        """Numbers of the windows of one part; raises RecordingError where there are none."""
        chosen = taught.chosen(part, self.step.warmup_samples)
        if not len(chosen):
            raise RecordingError(
                f"{taught.stream.source}: the teacher has no score for a window in the part that "
                f"{'trains' if part == FIT else 'tells when to stop'}; score the whole recording, or record longer"
            )
        return chosen

    # -- an epoch ----------------------------------------------------------------------------------------------------

    def epoch(self, number: int) -> Iterator[tuple[int, int, float | None]]:
        self.module.train()
        for done, steps, rows in self._batches(number):
            if not rows:
                yield done, steps, None
                continue
            predicted, targets = (torch.cat(parts) for parts in zip(*(self._predicted(some) for some in rows)))
            loss = regression_loss(predicted, targets, self.config.tail_weight)
            loss.backward()
            nn.utils.clip_grad_norm_(self.module.parameters(), CLIP_NORM)
            progress = (number + done / steps) / self.epochs
            set_rate(self.optimizer, learning_rate(self.config.schedule, self.config.learning_rate, progress))
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            yield done, steps, loss.item()

    @torch.no_grad()
    def validate(self) -> float:
        """Mean absolute error of held-out windows, normal ones and outliers in the shares that they train in."""
        self.module.eval()
        errors: dict[int, list[Tensor]] = {id(taught): [] for taught, _ in self.groups}
        for _, _, rows in self._evenly() if self.step.accumulator is None else self._along(CALIBRATE):
            for some in rows:
                predicted, targets = self._predicted(some)
                errors[id(some.taught)].append((predicted - targets).abs())
        return sum(share * float(torch.cat(errors[id(taught)]).mean()) for taught, share in self.groups)

    def _predicted(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """g and y of some windows, each (B,)."""
        stream = rows.taught.stream
        positions = torch.from_numpy(stream.positions)[rows.numbers]
        windows = stream.windows(positions, self.step.span)
        shown = self.step.standardized(windows, rows.beta)
        energies = self.step.energies(shown, self.live)
        return self.step.predict(windows, shown, energies, self.live), rows.taught.targets[rows.numbers]

    # -- which windows -----------------------------------------------------------------------------------------------

    def _batches(self, number: int) -> Iterator[tuple[int, int, list[Rows]]]:
        """Of one epoch: which it is, of how many, and its windows; none where an accumulator only warms up."""
        return self._shuffled(number) if self.step.accumulator is None else self._along(FIT)

    def _shuffled(self, number: int) -> Iterator[tuple[int, int, list[Rows]]]:
        """Every normal window once, beside each batch of them outliers drawn at random."""
        chosen = self.train[0]
        order = chosen[torch.randperm(len(chosen), generator=generator(self.seed, number))]
        extra = round(self.share * self.config.batch)
        pieces = order.split(max(1, self.config.batch - extra))
        draw = generator(self.seed + OUTLIER_STREAM, number)
        for done, piece in enumerate(pieces, 1):
            rows = [Rows(self.groups[0][0], piece)]
            for (taught, _), pool in zip(self.groups[1:], self.train[1:]):
                rows.append(Rows(taught, pool[torch.randint(len(pool), (extra,), generator=draw)]))
            yield done, len(pieces), rows

    def _evenly(self) -> Iterator[tuple[int, int, list[Rows]]]:
        """Held-out windows of both sets, spread over each."""
        for (taught, _), held in zip(self.groups, self.held):
            for piece in held[:: max(1, len(held) // HELD)].split(self.config.batch):
                yield 1, 1, [Rows(taught, piece)]

    def _along(self, part: int) -> Iterator[tuple[int, int, list[Rows]]]:
        """Chunks of hops of every lane, the outliers' as many as their share; the shorter set begins anew."""
        accumulator = self.step.accumulator
        assert accumulator is not None
        sets = [_Set(self, taught, part, max(1, round(share * self.config.lanes))) for taught, share in self.groups]
        chunks = -(-max(each.hops for each in sets) // self.config.truncate_hops)
        for done in range(1, chunks + 1):
            yield done, chunks, [rows for each in sets if (rows := each.advance()) is not None]


class _Set:
    """The lanes of one stream, and the accumulator's state along them."""

    def __init__(self, job: SeriesJob, taught: Taught, part: int, lanes: int) -> None:
        assert job.step.accumulator is not None
        self.job, self.taught, self.accumulator = job, taught, job.step.accumulator
        stream = taught.stream
        self.lanes = Lanes.cut(stream, part, lanes, job.step.warmup_samples, stateful=True)
        self.hops = len(self.lanes.positions)
        self.number_of = np.full(len(stream.buffer) + 1, -1)
        self.number_of[stream.positions] = np.arange(len(stream.positions))
        self.at, self.state = 0, self._cold()

    def _cold(self) -> list[Tensor]:
        lanes = self.lanes.positions.shape[1]
        return [torch.zeros(lanes, *s, device=self.job.device) for s in self.accumulator.state_shapes().values()]

    def advance(self) -> Rows | None:
        """The windows that count in the next chunk of hops."""
        if self.at >= self.hops:
            self.at, self.state = 0, self._cold()
        rows = slice(self.at, min(self.at + self.job.config.truncate_hops, self.hops))
        self.at = rows.stop
        state = [tensor.detach() for tensor in self.state]
        betas, self.state = betas_along(self.accumulator, self.taught.stream, self.lanes, rows, state)
        numbers = torch.from_numpy(self.number_of[self.lanes.positions[rows].flatten().numpy()])
        counted = self.lanes.trained[rows].flatten() & self.taught.targets.isfinite().cpu()[numbers]
        if not counted.any():
            return None
        return Rows(self.taught, numbers[counted], torch.stack(betas).flatten(0, 1)[counted])
