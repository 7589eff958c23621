"""One training of images: a teacher that learns, students that follow one, or both at once (co-learning).

With the stop-gradient between them a teacher knows nothing of its students, so any number of students, each on its own
diet of outliers, can be trained beside ONE teacher: what a grid of students costs is the students.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgekd.methods.regression.config import RegressionConfig
from edgekd.methods.regression.image import BATCH, AutoencoderStep, ImageStep
from edgekd.methods.regression.image_outliers import noisy
from edgekd.methods.regression.score_scale import regression_loss
from edgekd.training import generator, learning_rate, length

SETTLED = 0.75  # co-learning: weights are kept from this part of the training on, when the targets hardly move any more
OUTLIER_STREAM = 7919  # random numbers of the outliers are not those of the order of the normal images

Teach = Callable[[Tensor], Tensor]
"""Scaled images (B, 1, rows, columns) -> the teacher's scores (B,)."""


@dataclass(frozen=True)
class Images:
    """Scaled images (N, 1, rows, columns) in [0, 1]."""

    normal: Tensor
    held: Tensor
    """Normal ones that validate."""
    outliers: Tensor | None = None
    held_outliers: Tensor | None = None

    def to(self, device: str) -> Images:
        moved = (None if images is None else images.to(device) for images in vars(self).values())
        return Images(*moved)  # type: ignore[arg-type]


@dataclass
class Group:
    """Students on one diet."""

    name: str
    students: list[ImageStep]
    outliers: bool = False
    """Whether the set of outliers is shown to them."""
    noise: str = "none"
    """Kind of outliers made from normal images."""

    def extra(self, images: Images, count: int, draw: torch.Generator, held: bool = False) -> Tensor | None:
        """`count` rows that are not normal: half of each kind where there are two."""
        rows = []
        kinds = int(self.outliers) + int(self.noise != "none")
        if self.outliers:
            pool = images.held_outliers if held else images.outliers
            assert pool is not None
            rows.append(pool[torch.randint(len(pool), (count // kinds,), generator=draw)])
        if self.noise != "none":
            pool = images.held if held else images.normal
            chosen = pool[torch.randint(len(pool), (count - count // kinds * (kinds - 1),), generator=draw)]
            rows.append(noisy(chosen.cpu(), self.noise, draw).to(pool.device))
        return torch.cat(rows) if rows else None


class ImageJob:
    """See `edgekd.training.Job`. `teacher` learns where there is no `teach`; else `teach` gives fixed scores.

    Every student keeps the weights of its own best epoch, which `finish` puts back.
    """

    def __init__(
        self,
        name: str,
        images: Images,
        config: RegressionConfig,
        seed: int,
        groups: list[Group],
        teacher: AutoencoderStep | None = None,
        teach: Teach | None = None,
        device: str = "cpu",
    ) -> None:
        self.name, self.images, self.config, self.seed, self.groups = name, images.to(device), config, seed, groups
        self.teacher, self.teach = teacher, teach or (teacher.scores if teacher is not None else None)
        self.learns = teach is None
        self.students = [student for group in groups for student in group.students]
        self.batch = config.batch if self.students else config.teacher_batch
        epochs = config.epochs if self.students else config.teacher_epochs
        batches = -(-len(images.normal) // self.batch)
        self.epochs, self.patience = length(epochs, config.patience, config.updates, batches)
        self.keep_from = math.ceil(SETTLED * self.epochs) - 1 if self.learns and self.students else 0
        parts: dict[str, nn.Module] = {}
        rates: list[dict[str, object]] = []
        if self.learns and teacher is not None:
            parts["teacher"] = teacher.network
            rates.append({"params": list(teacher.network.parameters()), "peak": config.teacher_learning_rate})
        followers = nn.ModuleList(nn.ModuleList([student.network, student.scale]) for student in self.students)
        if self.students:
            parts["students"] = followers
            rates.append({"params": list(followers.parameters()), "peak": config.learning_rate})
        self.best = _Best(followers)
        self.module = nn.ModuleDict({**parts, "best": self.best}).to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer: torch.optim.Optimizer = torch.optim.Adam(rates, lr=config.learning_rate)
        self.targets: Tensor | None = None
        if not self.learns:
            self.targets = self._scores(self.images.normal)
            for student in self.students:
                student.scale.fit(self.targets)

    # -- an epoch ----------------------------------------------------------------------------------------------------

    def epoch(self, number: int) -> Iterator[tuple[int, int, float]]:
        self.number = number
        order = torch.randperm(len(self.images.normal), generator=generator(self.seed, number))
        draws = [generator(self.seed + OUTLIER_STREAM, number) for _ in self.groups]  # a group's rows are its own
        batches = order.split(self.batch)
        for done, batch in enumerate(batches, 1):
            rows = _last(self.images.normal[batch])
            loss, scores = self._teach(rows, batch)
            for group, draw in zip(self.groups, draws):
                loss = self._learn(group, rows, scores, draw)
            progress = (number + done / len(batches)) / self.epochs
            for rates in self.optimizer.param_groups:
                rates["lr"] = learning_rate(self.config.schedule, rates["peak"], progress)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            yield done, len(batches), loss

    def _teach(self, rows: Tensor, batch: Tensor) -> tuple[float, Tensor]:
        """The teacher's scores of normal rows; where it learns, its gradients and the moving scale too."""
        if self.targets is not None:
            return 0.0, self.targets[batch]
        assert self.teacher is not None
        scores = self.teacher.scores(rows)
        loss = scores.mean()
        loss.backward()
        for student in self.students:
            first = self.number == 0 and not bool(student.scale.mean)
            student.scale.follow(scores, 1.0 if first else self.config.target_rate)
        return loss.item(), scores.detach()

    def _learn(self, group: Group, rows: Tensor, scores: Tensor, draw: torch.Generator) -> float:
        """Gradients of one group's students; returns their mean loss."""
        extra = group.extra(self.images, self._extra_rows(len(rows)), draw)
        if extra is not None:
            rows = _last(torch.cat([rows, extra]))
            scores = torch.cat([scores, self._scores(extra)])
        total = 0.0
        for student in group.students:
            loss = self._loss(student, rows, scores)
            loss.backward()
            total += loss.item()
        return total / len(group.students)

    def _loss(self, student: ImageStep, rows: Tensor, scores: Tensor) -> Tensor:
        return regression_loss(student.network(rows), student.scale.standardize(scores), self.config.tail_weight)

    def _extra_rows(self, normal: int) -> int:
        """Rows that make up the outliers' share of a batch beside so many normal ones."""
        share = self.config.outlier_share
        return round(normal * share / (1.0 - share))

    @torch.no_grad()
    def _scores(self, images: Tensor) -> Tensor:
        assert self.teach is not None
        return torch.cat([self.teach(_last(rows)) for rows in images.split(BATCH)])

    # -- after an epoch ----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def validate(self) -> float:
        """Mean over the students of the best error that each has reached; the teacher's own where it is alone.

        Rows are the held-out normal images, and as large a share of held-out outliers as in training.
        """
        scores = self._scores(self.images.held)
        if not self.students:
            return float(scores.mean())
        number = 0
        for group in self.groups:
            rows, y = self.images.held, scores
            extra = group.extra(self.images, self._extra_rows(len(rows)), generator(self.seed, -1), held=True)
            if extra is not None:
                rows, y = torch.cat([rows, extra]), torch.cat([y, self._scores(extra)])
            for student in group.students:
                errors = [
                    (student.network(_last(some)) - student.scale.standardize(of)).abs()
                    for some, of in zip(rows.split(BATCH), y.split(BATCH))
                ]
                self.best.offer(number, float(torch.cat(errors).mean()), always=self.number <= self.keep_from)
                number += 1
        return float(self.best.errors.mean())

    def finish(self) -> None:
        """Put each student's best weights into it, and bring everything back to the CPU."""
        self.best.restore()
        self.module.to("cpu").to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]


class _Best(nn.Module):
    """The best weights of each of several modules, kept beside them so that an interrupted training has them too."""

    errors: Tensor

    def __init__(self, current: nn.ModuleList) -> None:
        super().__init__()
        self._current = [current]  # in a list: not part of this module's own state
        self.kept = copy.deepcopy(current).requires_grad_(False)
        self.register_buffer("errors", torch.zeros(len(current)))

    def offer(self, number: int, error: float, always: bool) -> None:
        if always or error < self.errors[number]:
            self.errors[number] = error
            self.kept[number].load_state_dict(self._current[0][number].state_dict())

    def restore(self) -> None:
        for kept, current in zip(self.kept, self._current[0]):
            current.load_state_dict(kept.state_dict())


def _last(images: Tensor) -> Tensor:
    """Pixels of all channels side by side, which small convolutions are fastest with."""
    return images.contiguous(memory_format=torch.channels_last)
