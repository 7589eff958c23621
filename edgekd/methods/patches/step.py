"""The teacher as one step: newest patch -> embedding -> mean cosine distance to the nearest patches in memory."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgekd.blocks.innovation_input import InnovationInput
from edgekd.blocks.scaling import SampleScaler
from edgekd.blocks.score_terms import TINY
from edgekd.blocks.step import WindowStep
from edgekd.methods.patches.config import PatchesConfig

KERNELS = (7, 5, 3, 3)
REVIN_FLOOR = 1e-5  # added to a patch's variance, as published
SMALLEST = 1e-6  # distance: a score is positive


class Encoder(nn.Module):
    """A patch as one vector: four convolutions, each with batch normalization and ReLU, and the mean over time.

    Without padding: what a patch says does not depend on zeros beside it.
    """

    def __init__(self, m: int, width: int, revin: bool) -> None:
        super().__init__()
        self.revin = revin
        channels = (m, width, 2 * width, width, width // 2)
        self.size = channels[-1]
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Conv1d(one, other, kernel, bias=False), nn.BatchNorm1d(other), nn.ReLU())
            for one, other, kernel in zip(channels, channels[1:], KERNELS)
        )

    def forward(self, patches: Tensor, live: Tensor) -> Tensor:
        """patches (B, span, m), live (m,) 1 or 0 -> (B, size)."""
        if self.revin:
            centered = patches - patches.mean(1, keepdim=True)
            patches = centered / (centered.square().mean(1, keepdim=True) + REVIN_FLOOR).sqrt()
        x = (patches * live).transpose(1, 2)  # (B, m, span)
        for layer in self.layers:
            x = layer(x)
        return x.mean(2)


def lifted(vectors: Tensor) -> Tensor:
    """Embeddings (B, size) -> unit vectors (B, size + 1) whose cosine tells lengths apart, too, and zero from others.

    The published cosine is that of the embeddings themselves: twice the vibration is the same direction.
    """
    return F.normalize(F.pad(vectors, (0, 1), value=1.0), dim=1)


class PatchStep(WindowStep):
    """A patch's score belongs to its newest sample. Each sensor's share is that of its samples' energy."""

    config: PatchesConfig
    memory: Tensor
    """(k, size): unit vectors."""
    batch_windows = 128

    def __init__(self, config: PatchesConfig, n_sensors: int, n_kept: int, period_s: float) -> None:
        super().__init__()
        self.config = config
        self.n_sensors, self.m = n_sensors, n_kept
        self.geometry = config.geometry(period_s)
        self.hop, self.span = self.geometry.hop, self.geometry.span
        self.entity_resets = config.entity_resets
        self.scaler = SampleScaler(n_sensors, n_kept, (-5.0, 5.0))
        if config.input == "innovations":
            self.innovations = InnovationInput(n_kept)
        self.warmup_samples = -(-(self.span + self.unseen_samples) // self.hop) * self.hop
        self.encoder = Encoder(n_kept, config.width, config.revin)
        self.register_buffer("memory", torch.zeros(config.memory, self.encoder.size + 1))

    def verdict(self, windows: Tensor, live: Tensor) -> tuple[Tensor, Tensor]:
        embedded = lifted(self.encoder(windows, live))
        nearest = (embedded @ self.memory.T).topk(self.config.nearest, dim=1).values  # (B, nearest)
        score = (1.0 - nearest.mean(1)).clamp_min(SMALLEST) * live.sum().clamp(max=1.0)
        shares = windows.square().sum(1).clamp_min(TINY) * live  # (B, m)
        return score, shares * (score / shares.sum(1).clamp_min(TINY)).unsqueeze(-1)
