"""The detector as one step: newest patch of each sensor's innovations -> embedding -> distance to the sensor's memory.

Teacher and student are the same but for the width of the encoder.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgekd.blocks.damaged_recording import damaged
from edgekd.blocks.innovation_input import InnovationInput
from edgekd.blocks.scaling import SampleScaler
from edgekd.blocks.step import WindowStep
from edgekd.data.recording import Recording
from edgekd.methods.patches.config import TEACHER, PatchesConfig

KERNELS = (7, 5, 3, 3)
FLOOR = 0.1  # of squared distances, by the usual one; the root of a distance near zero is noise


class Encoder(nn.Module):
    """A patch of one sensor as one vector: four convolutions, each with batch normalization and ReLU, and the mean over
    time.

    Without padding: what a patch says does not depend on zeros beside it.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        channels = (1, width, 2 * width, width, width // 2)
        self.size = channels[-1]
        self.layers = nn.Sequential(
            *(
                nn.Sequential(nn.Conv1d(one, other, kernel, bias=False), nn.BatchNorm1d(other), nn.ReLU())
                for one, other, kernel in zip(channels, channels[1:], KERNELS)
            )
        )

    def forward(self, patches: Tensor) -> Tensor:
        """patches (B, span) -> (B, size)."""
        return self.layers(patches.unsqueeze(1)).mean(2)


class PatchStep(WindowStep):
    """A patch's score belongs to its newest sample; the score is the mean over sensors of each one's own."""

    config: PatchesConfig
    memory: Tensor
    """(m, k, size): embeddings of each sensor's kept patches."""
    usual: Tensor
    """(m,): mean distance of the patches that trained."""
    batch_windows = 32
    # the mean over it is the embedding: in eight bits, what lies near normal patches loses its order
    float_weights = ("encoder.layers.3.",)

    def __init__(self, config: PatchesConfig, n_sensors: int, n_kept: int, period_s: float) -> None:
        super().__init__()
        self.config = config
        self.n_sensors, self.m = n_sensors, n_kept
        self.hop, self.span = config.hop_at(period_s), config.patch
        self.scaler = SampleScaler(n_sensors, n_kept, (-1.0, 2.0))
        self.innovations = InnovationInput(n_kept)
        self.warmup_samples = -(-(self.span + self.unseen_samples) // self.hop) * self.hop
        self.encoder = Encoder(config.teacher_width if config.detector == TEACHER else config.width)
        self.register_buffer("memory", torch.zeros(n_kept, config.memory, self.encoder.size))
        self.register_buffer("usual", torch.ones(n_kept))

    def embedded(self, windows: Tensor) -> Tensor:
        """windows (B, span, m) -> (B, m, size)."""
        return self.encoder(windows.transpose(1, 2).reshape(-1, self.span)).reshape(-1, self.m, self.encoder.size)

    def squares(self, vectors: Tensor) -> Tensor:
        """Embeddings (B, m, size) -> squared distance to the nearest in each sensor's memory, (B, m)."""
        return (vectors.unsqueeze(2) - self.memory).square().sum(-1).amin(2)  # of (B, m, k)

    def verdict(self, windows: Tensor, live: Tensor) -> tuple[Tensor, Tensor]:
        relative = self.squares(self.embedded(windows)) / self.usual.square() + FLOOR
        # the root of the distance: one sensor that is far away does not drown the others
        shares = relative.sqrt().sqrt() * live / live.sum().clamp_min(1.0)  # (B, m)
        return shares.sum(1), shares

    def calibration(self, replay: Recording) -> Recording:
        """The replay stretch with damage: what lies far from normal must not be clipped to one score."""
        return damaged(replay, self.span, seed=0)
