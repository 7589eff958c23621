"""Training of the teacher: neighbors in time alike, then a memory of the patches that stand for the others.

Source: PaAno (Park and Kang, ICLR 2026, arXiv 2602.01359). A patch is drawn to one that begins a sample or two beside
it and away from the farthest of the batch; at first the encoder also learns to tell the patch before from any other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgekd.blocks.scaling import SampleScaler
from edgekd.blocks.threshold import FIT, parts, require_windows
from edgekd.blocks.training_windows import TrainingStream, require_some
from edgekd.data.recording import Recording
from edgekd.methods.interface import Training
from edgekd.methods.patches.config import PatchesConfig
from edgekd.methods.patches.step import PatchStep, lifted
from edgekd.methods.regression.series_train import looked_at
from edgekd.training import fit, generator, set_rate

RADIUS = 2  # samples between a patch and one that is to be like it
MARGIN = 0.5
OTHERS = 5  # patches that are not the one before, for each that is
PRETEXT = 0.1  # share of the training in which that is asked, ever less
PROJECTION = 256
WEIGHT_DECAY = 1e-4
EPOCHS = 10
FEWEST_KEPT = 500  # patches in memory, where there are so many
MOST_PATCHES = 4096  # evenly spread, that the memory is chosen from
ENCODED = 256  # patches at once


def train_teacher(
    recording: Recording, config: PatchesConfig, how: Training
) -> tuple[PatchStep, list[dict[str, float]]]:
    """A teacher and the history of its training."""
    torch.manual_seed(how.seed)
    fitted = parts(recording) == FIT
    kept = looked_at(recording, config, fitted)
    sizes = recording.n_sensors, len(kept), recording.period_s
    planned = PatchStep(config.teacher(), *sizes)
    require_windows(planned, recording)
    planned.scaler = SampleScaler.fit(recording.values[fitted], kept, "zscore")
    planned.fit_innovations(recording, fitted)
    stream = TrainingStream(planned.all_shown, recording, planned.entities(recording), planned.span, 1)
    trained = (stream.parts == FIT) & (stream.ages >= planned.span)
    chosen = torch.from_numpy(stream.positions[trained])
    candidates = chosen[:: -(-len(chosen) // MOST_PATCHES)]
    wanted = config.memory or max(FEWEST_KEPT, len(candidates) // 10)
    step = PatchStep(replace(planned.config, memory=min(wanted, len(candidates))), *sizes)
    step.scaler, step.innovations = planned.scaler, planned.innovations
    job = TeacherJob(step, stream, how)
    history = fit(
        job,
        epochs=EPOCHS,
        patience=EPOCHS,
        checkpoint=how.workdir and how.workdir / "teacher.training",
        resume=how.resume,
        digest=f"{recording.digest()} {sorted(config.to_json().items())} {how.seed}",
        report=how.report,
        keep_from=EPOCHS - 1,
    )
    remember(step.to("cpu").eval(), stream, candidates)
    return step, history


@torch.inference_mode()
def remember(step: PatchStep, stream: TrainingStream, candidates: Tensor) -> None:
    """Keep of the patches that end at `candidates` (N,) those nearest to the centers of their clusters."""
    from sklearn.cluster import MiniBatchKMeans

    live = torch.ones(step.m)
    vectors = torch.cat([step.encoder(stream.windows(some, step.span), live) for some in candidates.split(ENCODED)])
    vectors = lifted(vectors)
    if len(step.memory) < len(vectors):
        found = MiniBatchKMeans(len(step.memory), batch_size=8192, max_iter=50, n_init=1, random_state=0).fit(
            vectors.numpy()
        )
        centers = torch.from_numpy(found.cluster_centers_).float()
        vectors = vectors[torch.cdist(vectors, centers).argmin(0)]
    step.memory.copy_(vectors)


class TeacherJob:
    """The encoder with what only its training needs; see `edgekd.training.Job`."""

    name = "teacher"
    module: nn.Module
    optimizer: torch.optim.Optimizer

    def __init__(self, step: PatchStep, stream: TrainingStream, how: Training) -> None:
        self.step, self.config, self.seed, self.device = step, step.config, how.seed, how.device
        self.stream = stream
        size = step.encoder.size
        self.projection = nn.Sequential(nn.Linear(size, PROJECTION), nn.ReLU(), nn.Linear(PROJECTION, PROJECTION))
        self.adjacent = nn.Linear(2 * size, 1)
        self.module = nn.ModuleDict(
            {"encoder": step.encoder, "projection": self.projection, "adjacent": self.adjacent}
        ).to(how.device)
        self.optimizer = torch.optim.AdamW(
            self.module.parameters(), lr=self.config.teacher_learning_rate, weight_decay=WEIGHT_DECAY
        )
        self.live = torch.ones(step.m, device=how.device)
        counted = (stream.parts == FIT) & (stream.ages >= step.span + RADIUS)
        require_some(stream, counted, step.span + RADIUS, FIT)
        self.anchors = np.flatnonzero(counted)

    def epoch(self, number: int) -> Iterator[tuple[int, int, float | None]]:
        self.module.train()
        steps = -(-self.config.iterations // EPOCHS)
        draw = generator(self.seed, number)
        for done in range(1, steps + 1):
            progress = (number + done / steps) / EPOCHS
            falling = 0.55 + 0.45 * math.cos(math.pi * progress)  # to a tenth
            set_rate(self.optimizer, self.config.teacher_learning_rate * falling)
            loss = self._loss(draw, max(0.0, 1.0 - progress / PRETEXT))
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            yield done, steps, loss.item()

    @torch.no_grad()
    def validate(self) -> float:
        """The metric's loss on a fixed batch: only said, the last epoch is the one that counts."""
        self.module.eval()
        return float(self._loss(generator(self.seed, EPOCHS), 0.0))

    def _loss(self, draw: torch.Generator, pretext: float) -> Tensor:
        """Of one batch; `pretext` is the weight of its second part."""
        batch = self.config.teacher_batch
        chosen = self.anchors[torch.randint(len(self.anchors), (batch,), generator=draw).numpy()]
        anchors = torch.from_numpy(self.stream.positions[chosen])
        before = torch.from_numpy(self.stream.ages[chosen] >= 2 * self.step.span) & (pretext > 0)
        beside = anchors - torch.randint(1, RADIUS + 1, (batch,), generator=draw)
        ends = torch.cat([anchors, beside, anchors[before] - self.step.span])
        vectors = self.step.encoder(self.stream.windows(ends, self.step.span).to(self.device), self.live)
        own, near, earlier = vectors.split([batch, batch, len(ends) - 2 * batch])
        likeness = F.normalize(self.projection(own), dim=1) @ F.normalize(self.projection(near), dim=1).T  # (B, B)
        loss = F.relu(likeness.min(1).values - likeness.diagonal() + MARGIN).mean()
        if not before.any():
            return loss
        at = torch.arange(batch).repeat_interleave(OTHERS)
        other = (at + torch.randint(1, batch, (len(at),), generator=draw)) % batch
        right = self.adjacent(torch.cat([own[before.to(self.device)], earlier], 1))
        wrong = self.adjacent(torch.cat([own[at], own[other]], 1))
        return loss + pretext * (F.softplus(-right).mean() + F.softplus(wrong).mean())
