"""What one epoch is: shuffled normal windows with their damaged copies through both networks, or the mini-teacher."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from edgekd.blocks.threshold import CALIBRATE, FIT
from edgekd.blocks.training_windows import TrainingStream, require_some
from edgekd.methods.anomalyllm.damaged_windows import SyntheticAnomalies
from edgekd.methods.anomalyllm.losses import collapse_loss, contrast_loss, row_losses, soft_boundary
from edgekd.methods.anomalyllm.networks import Teacher
from edgekd.methods.anomalyllm.step import AnomalyLLMStep
from edgekd.training import autocast, generator, learning_rate, length, set_rate

HELD = 256  # windows, spread evenly, that tell the epochs apart
ENCODED = 64  # windows at once through the language model
EPOCHS_APART = 1_000_003
HELD_STREAM = 7919  # random numbers of the damage to held-out windows are not those of training


@dataclass
class Batch:
    """Normal windows, then their damaged copies."""

    windows: Tensor
    """(B + 2B, L, m), or (B, L, m) without damage."""
    normal: int
    """B."""
    summary: Tensor | None
    """(rows, features): what the teacher's output layer reads, where it is known beforehand."""


class Windows:
    """Normal windows of one part, and where their damaged copies come from."""

    def __init__(self, windows: Tensor, damage: SyntheticAnomalies | None, draws: int, seed: int) -> None:
        """windows (N, L, m); draws: sets of copies that are made now, 0 makes copies as they are asked for."""
        self.windows, self.damage, self.seed = windows, damage, seed
        self.fixed = [self._copies(windows, draw) for draw in range(draws)] if damage is not None else []
        self.summaries: list[Tensor] = []

    def __len__(self) -> int:
        return len(self.windows)

    def remember(self, teacher: Teacher, precision: str) -> None:
        """Compute what the teacher's output layer will read of every window and of every copy that there is."""
        device = self.windows.device
        with torch.no_grad(), autocast(precision, device):
            for rows in (self.windows, *(copies.flatten(0, 1) for copies in self.fixed)):
                self.summaries.append(torch.cat([teacher.summary(some).float() for some in rows.split(ENCODED)]))

    def batch(self, chosen: Tensor, epoch: int, piece: int) -> Batch:
        """Some windows by number, with the copies of this epoch."""
        windows = self.windows[chosen]
        rows, summary = [windows], [self.summaries[0][chosen]] if self.summaries else []
        if self.damage is not None:
            draw = epoch % max(1, len(self.fixed))
            copies = self.fixed[draw][:, chosen] if self.fixed else self._copies(windows, epoch, piece)
            rows.append(copies.flatten(0, 1))
            if self.summaries:
                both = self.summaries[1 + draw].reshape(len(copies), len(self), -1)[:, chosen]
                summary.append(both.flatten(0, 1))
        return Batch(torch.cat(rows), len(chosen), torch.cat(summary) if summary else None)

    def _copies(self, windows: Tensor, *number: int) -> Tensor:
        """(2, B, L, m), the same for the same numbers."""
        assert self.damage is not None
        made = self.damage(windows.cpu().numpy(), np.random.default_rng((self.seed, *number)))
        return torch.from_numpy(made).to(windows.device)


def windows_of(step: AnomalyLLMStep, stream: TrainingStream, seed: int, draws: int) -> tuple[Windows, Windows]:
    """The windows that train, with `draws` sets of copies, and those that are held out, with one.

    Raises RecordingError where there are none.
    """
    config = step.config
    chosen = []
    for part, most in ((FIT, config.windows), (CALIBRATE, HELD)):
        whole = (stream.parts == part) & (stream.ages >= step.span)
        require_some(stream, whole, step.span, part)
        positions = torch.from_numpy(stream.positions[whole])
        spread = torch.linspace(0, len(positions) - 1, min(most or len(positions), len(positions))).round().long()
        chosen.append(stream.windows(positions[spread], step.span))
    deviation = chosen[0].std((0, 1), correction=0).cpu().numpy()
    damage = SyntheticAnomalies(config, deviation, step.scaler.clip) if config.synthetic else None
    if config.anomalies == "reference":
        draws = max(1, draws)  # published: drawn once
    return Windows(chosen[0], damage, draws, seed), Windows(chosen[1], damage, 1, seed + HELD_STREAM)


class _Job:
    """What both trainings share: see `edgekd.training.Job`."""

    name: str
    module: nn.Module
    optimizer: torch.optim.Optimizer
    epochs: int
    patience: int

    def __init__(self, step: AnomalyLLMStep, train: Windows, held: Windows, seed: int, epochs: int) -> None:
        self.step, self.config, self.train, self.held, self.seed = step, step.config, train, held, seed
        batches = len(self._pieces(torch.arange(len(train))))
        self.epochs, self.patience = length(epochs, self.config.patience, self.config.updates, batches)
        self.optimizer = torch.optim.Adam(
            [parameter for parameter in self.module.parameters() if parameter.requires_grad],
            lr=self.config.learning_rate,
            betas=(0.9, self.config.beta2),
            weight_decay=self.config.weight_decay,
        )

    def losses(self, batch: Batch) -> Tensor:
        """The loss of a batch."""
        raise NotImplementedError

    def validate(self) -> float:
        """Loss on held-out windows: labels have no part in it."""
        raise NotImplementedError

    def epoch(self, number: int) -> Iterator[tuple[int, int, float]]:
        self.step.train()
        torch.manual_seed(self.seed * EPOCHS_APART + number)  # dropout's: a resumed training goes on as it would have
        pieces = self._pieces(torch.randperm(len(self.train), generator=generator(self.seed, number)))
        total = 0.0
        for done, piece in enumerate(pieces, 1):
            loss = self.losses(self.train.batch(piece, number, done))
            loss.backward()
            if self.config.schedule != "plateau":
                progress = (number + done / len(pieces)) / self.epochs
                set_rate(self.optimizer, learning_rate(self.config.schedule, self.config.learning_rate, progress))
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            total += loss.item()
            yield done, len(pieces), loss.item()
        if self.config.schedule == "plateau":
            cut_on_plateau(self.optimizer, total / len(pieces), self.config.plateau_epochs)

    def _pieces(self, order: Tensor) -> list[Tensor]:
        """Batches; one of a single window has no statistics."""
        return [piece for piece in order.split(self.config.batch) if len(piece) > 1 or len(order) == 1]

    def evaluated(self) -> Iterator[Batch]:
        """Held-out windows with copies that never change."""
        self.step.eval()
        for piece in torch.arange(len(self.held)).split(max(2, self.config.batch)):
            yield self.held.batch(piece, 0, 0)


class JointJob(_Job):
    """Teacher and student together, by one optimizer."""

    name = "student"

    def __init__(self, step: AnomalyLLMStep, train: Windows, held: Windows, seed: int) -> None:
        self.module = self.learned = Learned(step)
        self.reached: list[Tensor] = []
        super().__init__(step, train, held, seed, step.config.epochs)

    def vectors(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """z_T and z_S (rows, P)."""
        teacher = self.step.teacher
        assert isinstance(teacher, Teacher)
        summary = batch.summary
        if summary is None:
            with autocast(self.config.precision, batch.windows.device):
                summary = teacher.summary(batch.windows)
        return teacher.output(summary.float()), self.step.student(batch.windows, batch.normal)

    def losses(self, batch: Batch) -> Tensor:
        config, (teacher, student) = self.config, self.vectors(batch)
        rows = row_losses(teacher.detach() if config.kd_stop_teacher else teacher, student, batch.normal)
        self.reached.append(rows.detach())
        distilled = rows.mean()
        if config.one_class == "soft-boundary":
            distilled = soft_boundary(rows, self.learned.radius, config.nu)
        loss = config.kd_weight * distilled + config.contrast_weight * contrast_loss(teacher, batch.normal)
        # of normal windows: a teacher that tells nothing but damage from them has collapsed as well
        return loss + config.guard_weight * collapse_loss(teacher[: batch.normal], config.guard_spread)

    def epoch(self, number: int) -> Iterator[tuple[int, int, float]]:
        self.reached = []
        yield from super().epoch(number)
        if self.config.one_class == "soft-boundary" and number + 1 >= self.config.radius_epochs:
            self.learned.radius.copy_(torch.cat(self.reached).quantile(1.0 - self.config.nu))

    @torch.no_grad()
    def validate(self) -> float:
        """Distance on held-out normal windows and nearness on their damaged copies."""
        normal, damaged = [], []
        for batch in self.evaluated():
            rows = row_losses(*self.vectors(batch), batch.normal)
            normal.append(rows[: batch.normal])
            damaged.append(rows[batch.normal :])
        apart = torch.cat(damaged)
        return float(torch.cat(normal).mean() + (apart.mean() if len(apart) else 0.0))


class MiniJob(_Job):
    """A network of the student's size learns the vectors that a teacher gives to normal and to damaged windows."""

    name = "mini-teacher"

    def __init__(self, step: AnomalyLLMStep, taught: Teacher, train: Windows, held: Windows, seed: int) -> None:
        """step: the detector to be; train, held: windows whose summaries by `taught` are known."""
        self.taught, self.module = taught, step.teacher
        super().__init__(step, train, held, seed, step.config.mini_epochs)

    def losses(self, batch: Batch) -> Tensor:
        assert batch.summary is not None
        with torch.no_grad():
            wanted = self.taught.output(batch.summary)
        return (self.step.teacher(batch.windows) - wanted).square().sum(-1).mean()

    @torch.no_grad()
    def validate(self) -> float:
        return float(np.mean([float(self.losses(batch)) for batch in self.evaluated()]))


class Learned(nn.Module):
    """What changes in training, alone: a language model's frozen blocks are not copied for every epoch."""

    radius: Tensor

    def __init__(self, step: AnomalyLLMStep) -> None:
        super().__init__()
        self.values = nn.ParameterList(p for p in step.parameters() if p.requires_grad)
        self.norms = nn.ModuleList(m for m in step.student.modules() if isinstance(m, nn.BatchNorm1d))
        self.register_buffer("radius", torch.zeros(()))


def cut_on_plateau(optimizer: torch.optim.Optimizer, loss: float, epochs: int) -> None:
    """A tenth of the rate where the loss has not fallen for `epochs`; what it needs to know is saved with the rate."""
    for group in optimizer.param_groups:
        if loss < group.get("best_loss", float("inf")):
            group["best_loss"], group["stalled"] = loss, 0
            continue
        group["stalled"] = group.get("stalled", 0) + 1
        if group["stalled"] > epochs:
            group["lr"], group["stalled"] = group["lr"] / 10, 0
