"""Training: the teacher's encoder by itself, the student's by the teacher's, and the memory of either.

Source of the teacher: PaAno (Park and Kang, ICLR 2026, arXiv 2602.01359). A patch is drawn to one that begins a sample
or two beside it and away from the farthest of the batch; at first the encoder also learns to tell the patch before from
any other. The student learns the distances between patches, normal and damaged: its score is made of nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgekd.blocks.damaged_recording import damaged
from edgekd.blocks.innovation_input import CLIP
from edgekd.blocks.scaling import SampleScaler, judged_columns, kept_columns
from edgekd.blocks.threshold import FIT, parts, require_windows
from edgekd.blocks.training_windows import TrainingStream, require_some
from edgekd.data.recording import Recording
from edgekd.methods.interface import Training
from edgekd.methods.patches.config import PatchesConfig
from edgekd.methods.patches.step import Encoder, PatchStep
from edgekd.training import fit, generator, set_rate

RADIUS = 2  # samples between a patch and one that is to be like it
MARGIN = 0.5
OTHERS = 5  # patches that are not the one before, for each that is
PRETEXT = 0.1  # share of the training in which that is asked, ever less
PROJECTION = 256
WEIGHT_DECAY = 1e-4
BATCH = {"teacher": 32, "student": 128}
NOISE = (0.05, CLIP)  # deviations
EPOCHS = 10
CANDIDATES = 600  # patches, evenly spread, that a memory is chosen from
SMALLEST = 1e-3  # distance that others are measured by


def trained(
    recording: Recording, config: PatchesConfig, how: Training, teacher: PatchStep | None = None
) -> tuple[PatchStep, list[dict[str, float]]]:
    """A teacher, or the student of the one that is given, and the history of its training."""
    torch.manual_seed(how.seed)
    step, stream, ends = prepared(recording, config)
    job: Job
    if teacher is None:
        job = TeacherJob(step, stream, ends, how)
    else:
        more = TrainingStream(
            step.all_shown, damaged(recording, step.span, seed=0), step.entities(recording), step.span, 1
        )
        job = StudentJob(step, stream, ends, how, teacher.encoder, more)
    history = fit(
        job,
        epochs=EPOCHS,
        patience=EPOCHS,
        checkpoint=how.workdir and how.workdir / f"{job.name}.training",
        resume=how.resume,
        digest=f"{recording.digest()} {sorted(config.to_json().items())} {how.seed}",
        report=how.report,
        keep_from=EPOCHS - 1,
    )
    remember(step.to("cpu").eval(), stream, ends)
    return step, history


def prepared(recording: Recording, config: PatchesConfig) -> tuple[PatchStep, TrainingStream, Tensor]:
    """A step that is scaled to the recording and has learned nothing, the recording as it sees it, and where in it the
    patches end that train."""
    fitted = parts(recording) == FIT
    if config.judged is None:
        kept = kept_columns(recording.values[fitted], True, recording.source)
    else:
        kept = np.unique(judged_columns(recording, config.judged))
    step = PatchStep(config, recording.n_sensors, len(kept), recording.period_s)
    require_windows(step, recording)
    step.scaler = SampleScaler.fit(recording.values[fitted], kept, "minmax")
    step.fit_innovations(recording, fitted)
    stream = TrainingStream(step.all_shown, recording, step.entities(recording), step.span, 1)
    counted = (stream.parts == FIT) & (stream.ages >= step.warmup_samples + RADIUS)
    require_some(stream, counted, step.warmup_samples + RADIUS, FIT)
    return step, stream, torch.from_numpy(stream.positions[counted])


@torch.inference_mode()
def remember(step: PatchStep, stream: TrainingStream, ends: Tensor) -> None:
    """Keep of each sensor's patches those nearest to the centers of their clusters, and what distance to them is usual.

    A sensor with fewer patches, or with patches that are the same, keeps some of them several times.
    """
    from sklearn.cluster import MiniBatchKMeans

    chosen = ends[:: -(-len(ends) // CANDIDATES)]
    vectors = torch.cat([step.embedded(stream.windows(some, step.span)) for some in chosen.split(step.batch_windows)])
    clusters = min(step.config.memory, len(vectors))
    for memory, own in zip(step.memory, vectors.transpose(0, 1)):  # (k, size), (N, size)
        found = MiniBatchKMeans(clusters, batch_size=4096, max_iter=50, n_init=1, random_state=0).fit(own.numpy())
        nearest = torch.cdist(own, torch.from_numpy(found.cluster_centers_).float()).argmin(0)
        memory.copy_(own[nearest[torch.arange(len(memory)) % clusters]])
    step.usual.copy_(step.squares(vectors).sqrt().mean(0).clamp_min(SMALLEST))


class Job:
    """Batches drawn at random, ever slower; see `edgekd.training.Job`. Subclasses write `loss`."""

    name: str
    module: nn.Module
    optimizer: torch.optim.Optimizer

    def __init__(self, step: PatchStep, stream: TrainingStream, ends: Tensor, how: Training, batches: int) -> None:
        self.step, self.stream, self.ends = step, stream, ends
        self.seed, self.device, self.rate = how.seed, how.device, step.config.learning_rate
        self.steps = -(-batches // EPOCHS)

    def learn(self, *modules: nn.Module) -> None:
        """The networks that train."""
        self.module = nn.ModuleList(modules).to(self.device)
        self.optimizer = torch.optim.AdamW(self.module.parameters(), lr=self.rate, weight_decay=WEIGHT_DECAY)

    def epoch(self, number: int) -> Iterator[tuple[int, int, float | None]]:
        self.module.train()
        draw = generator(self.seed, number)
        for done in range(1, self.steps + 1):
            progress = (number + done / self.steps) / EPOCHS
            set_rate(self.optimizer, self.rate * (0.55 + 0.45 * math.cos(math.pi * progress)))  # to a tenth
            loss = self.loss(draw, progress)
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            yield done, self.steps, loss.item()

    @torch.no_grad()
    def validate(self) -> float:
        """The loss of a fixed batch: only said, the last epoch is the one that counts."""
        self.module.eval()
        return float(self.loss(generator(self.seed, EPOCHS), 1.0))

    def loss(self, draw: torch.Generator, progress: float) -> Tensor:
        """Of one batch."""
        raise NotImplementedError

    def drawn(self, draw: torch.Generator) -> tuple[Tensor, Tensor]:
        """A batch of patches: where each ends, and of which sensor it is."""
        size = (BATCH[self.name],)
        chosen = torch.randint(len(self.ends), size, generator=draw)
        return self.ends[chosen], torch.randint(self.step.m, size, generator=draw)

    def patches(self, stream: TrainingStream, ends: Tensor, sensors: Tensor) -> Tensor:
        """(B, span) of the sensors (B,)."""
        rows = ends.unsqueeze(1) + torch.arange(-self.step.span, 0)
        return stream.buffer[rows, sensors.unsqueeze(1)].to(self.device)


class TeacherJob(Job):
    """The encoder with what only its training needs."""

    name = "teacher"

    def __init__(self, step: PatchStep, stream: TrainingStream, ends: Tensor, how: Training) -> None:
        super().__init__(step, stream, ends, how, step.config.iterations)
        size = step.encoder.size
        self.projection = nn.Sequential(nn.Linear(size, PROJECTION), nn.ReLU(), nn.Linear(PROJECTION, PROJECTION))
        self.adjacent = nn.Linear(2 * size, 1)
        self.learn(step.encoder, self.projection, self.adjacent)
        self.second = int(ends.min()) + step.span  # the first end whose patch has one before it

    def loss(self, draw: torch.Generator, progress: float) -> Tensor:
        ends, sensors = self.drawn(draw)
        batch, pretext = len(ends), max(0.0, 1.0 - progress / PRETEXT)
        beside = ends - torch.randint(1, RADIUS + 1, (batch,), generator=draw)
        before = (ends >= self.second) & (pretext > 0)
        patches = self.patches(
            self.stream,
            torch.cat([ends, beside, ends[before] - self.step.span]),
            torch.cat([sensors, sensors, sensors[before]]),
        )
        own, near, earlier = self.step.encoder(patches).split([batch, batch, int(before.sum())])
        likeness = F.normalize(self.projection(own), dim=1) @ F.normalize(self.projection(near), dim=1).T  # (B, B)
        loss = F.relu(likeness.min(1).values - likeness.diagonal() + MARGIN).mean()
        if not before.any():
            return loss
        at = torch.arange(batch).repeat_interleave(OTHERS)
        other = (at + torch.randint(1, batch, (len(at),), generator=draw)) % batch
        right = self.adjacent(torch.cat([own[before.to(self.device)], earlier], 1))
        wrong = self.adjacent(torch.cat([own[at], own[other]], 1))
        return loss + pretext * (F.softplus(-right).mean() + F.softplus(wrong).mean())


class StudentJob(Job):
    """The smaller encoder: patches are to lie as far from each other as the teacher's lie."""

    name = "student"

    def __init__(
        self, step: PatchStep, stream: TrainingStream, ends: Tensor, how: Training, teacher: Encoder,
        damaged: TrainingStream,
    ) -> None:  # fmt: skip
        super().__init__(step, stream, ends, how, step.config.updates)
        self.teacher, self.damaged = teacher.to(how.device).eval(), damaged
        # what stands still in all of the training is shown something, too: an encoder of nothing but zeros is blind
        draw = generator(how.seed, EPOCHS + 1)
        sizes = torch.empty(BATCH[self.name], 1).uniform_(*map(math.log, NOISE), generator=draw).exp()
        self.noise = (sizes * torch.randn(len(sizes), step.span, generator=draw)).clamp(-CLIP, CLIP)
        self.learn(step.encoder)

    def loss(self, draw: torch.Generator, progress: float) -> Tensor:
        ends, sensors = self.drawn(draw)
        strange = self.patches(self.damaged, ends, sensors)
        strange = torch.where(strange.any(1, keepdim=True), strange, self.noise.to(self.device))
        patches = torch.cat([self.patches(self.stream, ends, sensors), strange])
        with torch.no_grad():
            target = F.pdist(self.teacher(patches))  # of all pairs
        error = F.pdist(self.step.encoder(patches)) - target
        return (error / (target + target.mean() + SMALLEST)).square().mean()
