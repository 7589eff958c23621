"""What one epoch is for the teacher (shuffled windows) and for the student (lanes that carry state)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgekd.blocks.threshold import CALIBRATE, FIT
from edgekd.blocks.training_windows import Lanes, TrainingStream, betas_along, require_some, reset
from edgekd.methods.lta.config import MATCHED_LEVEL
from edgekd.methods.lta.step import LTAStep
from edgekd.training import autocast, generator, in_half, learning_rate, length, set_rate

MICRO_BATCH = 16  # windows in one backward pass
CACHE_LIMIT_BYTES = 4 * 2**30  # teacher maps kept in memory; beyond it they are computed again each time


def reconstruction_loss(output: Tensor, target: Tensor, kind: str) -> Tensor:
    """output, target (B, 3, m, m) -> mean over elements, (B,)."""
    if kind == "huber":
        return F.smooth_l1_loss(output, target, reduction="none").mean((1, 2, 3))
    return (output - target).square().mean((1, 2, 3))


def map_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """NMSE of two maps (B, C, s, s): squared distance of the flattened maps at unit length, (B,), i.e. 2 - 2 cos."""
    return 2 - 2 * F.cosine_similarity(student.flatten(1).float(), teacher.flatten(1).float())


class _Job:
    """What both trainings share: the optimizer, the schedule, the clipped step, the validation."""

    name: str
    optimizer: torch.optim.Optimizer
    epochs: int
    patience: int

    def __init__(self, step: LTAStep, stream: TrainingStream, module: nn.Module, seed: int) -> None:
        self.step, self.stream, self.module, self.seed = step, stream, module, seed
        self.config, self.device = step.config, stream.buffer.device
        self.epochs, self.patience = self.config.epochs, self.config.patience
        module.to(self.device)
        self.optimizer = torch.optim.Adam(module.parameters(), lr=self.config.learning_rate)
        if in_half(self.config.precision, self.device):
            step.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def lengthen(self, batches: int) -> None:
        """To the updates that are asked for, with so many batches an epoch."""
        self.epochs, self.patience = length(self.epochs, self.patience, self.config.updates, batches)

    def descend(self, progress: float) -> None:
        """One optimizer step on the gradients that are there; `progress` 0..1 of the whole training."""
        nn.utils.clip_grad_norm_(self.module.parameters(), self.config.clip_norm)
        set_rate(self.optimizer, learning_rate(self.config.schedule, self.config.learning_rate, progress))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


class TeacherJob(_Job):
    """Reconstruction over shuffled windows."""

    name = "teacher"

    def __init__(self, step: LTAStep, stream: TrainingStream, seed: int) -> None:
        super().__init__(step, stream, step.network, seed)
        self.train, self.held = (self._whole(part) for part in (FIT, CALIBRATE))
        self.windows = min(len(self.train), self.config.teacher_windows or len(self.train))
        self.lengthen(-(-self.windows // self.config.teacher_batch))

    def _whole(self, part: int) -> Tensor:
        """Positions of the windows of one part that reach back no further than their stretch."""
        span = self.step.geometry.span
        chosen = (self.stream.parts == part) & (self.stream.ages >= span)
        require_some(self.stream, chosen, span, part)
        return torch.from_numpy(self.stream.positions[chosen])

    def losses(self, positions: Tensor) -> Tensor:
        sequence = self.step.sequence(self.stream.windows(positions, self.step.span), None)
        with autocast(self.config.precision, self.device):
            output, _ = self.step.reconstruct(sequence)
            return reconstruction_loss(output, sequence[:, -1], self.config.loss)

    def epoch(self, number: int) -> Iterator[tuple[int, int, float]]:
        order = self.train[torch.randperm(len(self.train), generator=generator(self.seed, number))[: self.windows]]
        batches = order.split(self.config.teacher_batch)
        for done, batch in enumerate(batches, 1):
            total = 0.0
            for micro in batch.split(MICRO_BATCH):
                loss = self.losses(micro).sum() / len(batch)
                loss.backward()
                total += loss.item()
            self.descend((number + done / len(batches)) / self.epochs)
            yield done, len(batches), total

    @torch.no_grad()
    def validate(self) -> float:
        # a few hundred windows, spread evenly, tell the epochs apart
        held = self.held[:: max(1, len(self.held) // 256)]
        losses = [self.losses(micro) for micro in held.split(MICRO_BATCH)]
        return float(torch.cat(losses).mean())


class StudentJob(_Job):
    """Reconstruction and the teacher's map along lanes, with truncated back-propagation through what is carried."""

    name = "student"

    def __init__(
        self,
        step: LTAStep,
        stream: TrainingStream,
        seed: int,
        teacher: LTAStep | None,
        teacher_stream: TrainingStream | None,
    ) -> None:
        modules = nn.ModuleDict({"network": step.network})
        if step.accumulator is not None:
            modules["accumulator"] = step.accumulator
        if teacher is not None:
            mine, theirs = (s.network.map_shapes[MATCHED_LEVEL][0] for s in (step, teacher))
            # a narrower student is compared through one 1x1 convolution, which stays on the workstation
            self.adapter = modules["adapter"] = nn.Identity() if mine == theirs else nn.Conv2d(mine, theirs, 1)
        super().__init__(step, stream, modules, seed)
        stateful = step.carried or step.accumulator is not None
        warm = max(step.warmup_samples, 0 if teacher is None else teacher.span)
        self.train = Lanes.cut(stream, FIT, self.config.lanes, warm, stateful)
        chunks = self.train.trained.split(self.config.truncate_hops)
        self.lengthen(sum(bool(chunk.any()) for chunk in chunks))
        self.held = Lanes.cut(stream, CALIBRATE, self.config.lanes, warm, stateful)
        self.maps = None
        if teacher is not None and teacher_stream is not None:
            self.maps = TeacherMaps(teacher, teacher_stream, self.train, self.config.matched_hops)

    def epoch(self, number: int) -> Iterator[tuple[int, int, float | None]]:
        hops, lanes = self.train.positions.shape
        state = self._cold(lanes)
        starts = range(0, hops, self.config.truncate_hops)
        for done, start in enumerate(starts, 1):
            rows = slice(start, min(start + self.config.truncate_hops, hops))
            state = [tensor.detach() for tensor in state]
            loss, state = self._chunk(self.train, rows, state, learn=True)
            counted = bool(self.train.trained[rows].any())
            if counted:
                self.descend((number + done / len(starts)) / self.epochs)
            yield done, len(starts), loss if counted else None

    @torch.no_grad()
    def validate(self) -> float:
        hops, lanes = self.held.positions.shape
        state, total, count = self._cold(lanes), 0.0, 0
        for start in range(0, hops, self.config.truncate_hops):
            rows = slice(start, min(start + self.config.truncate_hops, hops))
            trained = int(self.held.trained[rows].sum())
            loss, state = self._chunk(self.held, rows, state, learn=False)
            total, count = total + loss * trained, count + trained
        return total / max(1, count)

    # -- one chunk of hops ---------------------------------------------------------------------------------------

    def _cold(self, lanes: int) -> list[Tensor]:
        shapes = {} if self.step.accumulator is None else self.step.accumulator.state_shapes()
        shapes = shapes | self.step.carried_shapes()
        return [torch.zeros(lanes, *shape, device=self.device) for shape in shapes.values()]

    def _chunk(self, lanes: Lanes, rows: slice, state: list[Tensor], learn: bool) -> tuple[float, list[Tensor]]:
        """Hops `rows` of every lane: mean loss over the hops that count, and the state after them."""
        betas, summary = self._betas(lanes, rows, state)
        count = 0 if self.step.accumulator is None else len(self.step.accumulator.state_shapes())
        if self.step.carried:
            return self._carried(lanes, rows, betas, summary, state[count:], learn)
        return self._windowed(lanes, rows, betas, learn), summary

    def _betas(self, lanes: Lanes, rows: slice, state: list[Tensor]) -> tuple[list[Tensor] | None, list[Tensor]]:
        """The accumulator over the new samples of each hop: beta after each, and its last state."""
        accumulator = self.step.accumulator
        if accumulator is None:
            return None, []
        state = state[: len(accumulator.state_shapes())]
        return betas_along(accumulator, self.stream, lanes, rows, state, self.step.rereads)

    def _loss(self, output: Tensor, target: Tensor, attended: list[Tensor], chosen: Tensor, learn: bool) -> Tensor:
        """Loss of each window, (B,), of flat window numbers; validation compares reconstructions alone."""
        target = target if self.config.target_gradient else target.detach()
        loss = reconstruction_loss(output, target, self.config.loss)
        if not learn or self.maps is None:
            return loss
        known = self.maps.known(chosen)
        if not bool(known.any()):
            return loss
        weight = self.config.distill_weight * known.to(loss.device)
        matched = self.adapter(attended[MATCHED_LEVEL])
        return (1 - weight) * loss + weight * map_loss(matched, self.maps(chosen))

    def _windowed(self, lanes: Lanes, rows: slice, betas: list[Tensor] | None, learn: bool) -> float:
        """All windows of the chunk at once, in micro-batches; the accumulator's gradient is gathered at beta."""
        chosen = lanes.trained[rows].flatten().nonzero().squeeze(1)
        if not len(chosen):
            return 0.0
        positions = lanes.positions[rows].flatten()
        beta = None if betas is None else torch.stack(betas).flatten(0, 1)  # (hops * lanes, [steps,] m, m)
        leaf = None if beta is None else beta.detach().requires_grad_(learn)
        total = 0.0
        for micro in chosen.split(MICRO_BATCH):
            windows = self.stream.windows(positions[micro], self.step.span)
            sequence = self.step.sequence(windows, None if leaf is None else leaf[micro])
            with autocast(self.config.precision, self.device):
                output, attended = self.step.reconstruct(sequence)
                numbers = rows.start * lanes.positions.shape[1] + micro
                loss = self._loss(output, sequence[:, -1], attended, numbers, learn).sum() / len(chosen)
            total += loss.item()
            if learn:
                loss.backward()
        if learn and beta is not None and leaf is not None and leaf.grad is not None:
            beta.backward(leaf.grad)
        return total

    def _carried(
        self,
        lanes: Lanes,
        rows: slice,
        betas: list[Tensor] | None,
        summary: list[Tensor],
        state: list[Tensor],
        learn: bool,
    ) -> tuple[float, list[Tensor]]:
        """Hop after hop, the state of the network handed on."""
        trained = lanes.trained[rows].to(self.device)
        losses = []
        width = lanes.positions.shape[1]
        for hop, (positions, fresh) in enumerate(zip(lanes.positions[rows], lanes.fresh[rows])):
            state = reset(state, fresh)
            windows = self.stream.windows(positions, self.step.span)
            target = self.step.sequence(windows, None if betas is None else betas[hop])[:, -1]
            with autocast(self.config.precision, self.device):
                output, attended, state = self.step.advance(target, state)
                numbers = (rows.start + hop) * width + torch.arange(width)
                losses.append(self._loss(output, target, attended, numbers, learn) * trained[hop])
        loss = torch.stack(losses).sum() / max(1, int(trained.sum()))
        # a prediction that the last chunk handed over has no gradient
        if learn and bool(trained.any()) and loss.requires_grad:
            loss.backward()
        return loss.item(), [*summary, *(tensor.float() for tensor in state)]


class TeacherMaps:
    """The teacher's attended map for the windows of every so-manyth hop of the student's lanes, computed once and kept
    in half precision."""

    def __init__(self, teacher: LTAStep, stream: TrainingStream, lanes: Lanes, every: int) -> None:
        self.teacher, self.stream, self.every = teacher, stream, every
        self.lanes = lanes.positions.shape[1]
        self.positions = lanes.positions[::every].flatten()
        self.kept: Tensor | None = None
        channels, side, _ = teacher.network.map_shapes[MATCHED_LEVEL]
        if 2 * len(self.positions) * channels * side**2 <= CACHE_LIMIT_BYTES:
            self.kept = torch.cat([self._compute(p).half().cpu() for p in self.positions.split(MICRO_BATCH)])

    def known(self, chosen: Tensor) -> Tensor:
        """Flat window numbers (B,) -> bool (B,): the teacher is asked about this hop."""
        return chosen // self.lanes % self.every == 0

    def __call__(self, chosen: Tensor) -> Tensor:
        """Flat window numbers (B,) -> maps (B, C, s, s); of a hop that is not known the last one that is."""
        numbers = chosen // self.lanes // self.every * self.lanes + chosen % self.lanes
        if self.kept is None:
            return self._compute(self.positions[numbers])
        return self.kept[numbers].to(self.stream.buffer.device).float()

    @torch.no_grad()
    def _compute(self, positions: Tensor) -> Tensor:
        sequence = self.teacher.sequence(self.stream.windows(positions, self.teacher.span), None)
        with autocast(self.teacher.config.precision, self.stream.buffer.device):
            _, attended = self.teacher.reconstruct(sequence)
        return attended[MATCHED_LEVEL].float()
