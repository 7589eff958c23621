"""The two networks: a language model's blocks on patches, and the student that knows what is normal by prototypes.

Both map a window to one vector; how far apart the two vectors are is the score. Source: arXiv 2401.15123.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgekd.methods.anomalyllm.blocks import Block, PatchEmbedding, causal_mask, sinusoids
from edgekd.methods.anomalyllm.config import GPT2, AnomalyLLMConfig

EPS = 1e-5  # added to the variance of a window
TIE = 1e-4  # prototypes that resemble a window alike within this are taken for equals, and the first of them is shown
COMPACT = 16  # features that the compact head keeps of each sensor


class Teacher(nn.Module):
    """Patches of a window as the tokens of a language model; its own positions, the mean of what comes out.

    A GPT-2 block has 7,087,872 parameters at its own width; neither the token table nor more positions than there are
    patches are kept.
    """

    places: Tensor
    mask: Tensor | None

    def __init__(self, config: AnomalyLLMConfig, m: int) -> None:
        super().__init__()
        width, heads, blocks = config.sizes
        n, gpt2 = config.patches, config.backbone == GPT2
        self.features = config.features or width
        starts = config.patch_stride * torch.arange(n)
        # beyond the window its last sample is repeated
        places = (starts.unsqueeze(1) + torch.arange(config.patch)).clamp(max=config.window - 1)
        self.register_buffer("places", places, persistent=False)  # (n, patch)
        self.register_buffer("mask", causal_mask(n) if gpt2 else None, persistent=False)
        self.embedding = PatchEmbedding(config.patch * m, width, config.dropout)
        self.positions = nn.Parameter(0.02 * torch.randn(n, width))
        self.first_norm = nn.Identity() if gpt2 else nn.LayerNorm(width, eps=1e-12)
        self.blocks = nn.ModuleList(
            Block(
                width,
                heads,
                4 * width,
                norm_first=gpt2,
                activation="gelu_new" if gpt2 else "gelu",
                eps=1e-5 if gpt2 else 1e-12,
            )
            for _ in range(blocks)
        )
        self.last_norm = nn.LayerNorm(width) if gpt2 else nn.Identity()
        self.output = nn.Linear(self.features, config.outputs)

    def forward(self, windows: Tensor) -> Tensor:
        """windows (B, L, m) scaled -> z (B, P)."""
        return self.output(self.summary(windows))

    def summary(self, windows: Tensor) -> Tensor:
        """windows (B, L, m) -> what the output layer reads (B, features): the mean over patches.

        The published order, the layer and then the mean, gives the same at n times the work.
        """
        patches = windows[:, self.places].flatten(2)  # (B, n, patch * m), all sensors of a sample side by side
        return self.language(self.embedding(patches))[..., : self.features].mean(1)

    def language(self, tokens: Tensor) -> Tensor:
        """Embedded tokens (B, n, width) -> what the language model makes of them, of the same shape."""
        x = self.first_norm(tokens + self.positions)
        for block in self.blocks:
            x = block(x, self.mask)
        return self.last_norm(x)


class Student(nn.Module):
    """Each sensor's window and its nearest normal prototype through a small transformer; all sensors to one vector.

    210,720 parameters with the default sizes, one sensor and windows of 64 samples. With `normalize` false and no
    prototypes it is the mini-teacher, which has to see a window's level.
    """

    def __init__(self, config: AnomalyLLMConfig, m: int, *, prototypes: bool, normalize: bool = True) -> None:
        super().__init__()
        self.m, self.patch, self.normalize = m, config.student_patch, normalize
        self.n = config.window // self.patch
        width = config.student_width
        self.pool = Prototypes(config, m) if prototypes else None
        self.embedding = PatchEmbedding(self.patch, width, config.dropout)
        self.register_buffer("positions", sinusoids(self.n, width), persistent=False)
        self.layers = nn.ModuleList(
            Block(width, config.student_heads, config.student_hidden, norm_first=False, activation="relu")
            for _ in range(config.student_layers)
        )
        self.norm = nn.LayerNorm(width)
        published = config.head == "published" or (config.head == "auto" and m == 1)
        self.head: PublishedHead | CompactHead = (
            PublishedHead(m * self.n * width, config.outputs, config.head_norm)
            if published
            else CompactHead(m, width, config.outputs)
        )

    def forward(self, windows: Tensor, normal: int | None = None) -> Tensor:
        """windows (B, L, m) scaled -> z (B, P). normal: rows, from the first, that are known to be undamaged."""
        series = windows.transpose(1, 2)  # (B, m, L)
        shown = [series]
        if self.normalize:
            mean, spread = statistics(series)
            shown = [(series - mean) / spread]
            if self.pool is not None:
                shown.insert(0, self.pool(shown[0], mean, spread))
        rows = [each.reshape(-1, self.n, self.patch) for each in shown]  # (B * m, n, patch)
        tokens = torch.cat([self.embedding(row) + self.positions for row in rows], 1)
        for layer in self.layers:
            tokens = layer(tokens)
        own = self.norm(tokens)[:, -self.n :]  # (B * m, n, width)
        return self.head(own.reshape(len(windows), self.m, self.n, -1), normal)


def statistics(series: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation (B, m, 1) of each sensor's window (B, m, L)."""
    mean = series.mean(-1, keepdim=True)
    return mean, ((series - mean).square().mean(-1, keepdim=True) + EPS).sqrt()


class Prototypes(nn.Module):
    """A pool of learned windows for each sensor, of which the one most like the window is taken."""

    def __init__(self, config: AnomalyLLMConfig, m: int) -> None:
        super().__init__()
        self.scaled = config.proto_mode == "reference"
        self.windows = nn.Parameter(F.normalize(torch.rand(m, config.pool, config.window), dim=-1))  # (m, N, L)

    def forward(self, series: Tensor, mean: Tensor, spread: Tensor) -> Tensor:
        """series (B, m, L) instance-normalized by mean and spread (B, m, 1) -> the prototypes chosen, (B, m, L)."""
        pool: Tensor = self.windows
        if not self.scaled:
            center, deviation = statistics(pool)
            pool = (pool - center) / deviation
        chosen = (self.nearest(series.detach(), pool.detach()) @ pool).transpose(0, 1)
        return chosen * spread + mean if self.scaled else chosen

    @staticmethod
    def nearest(series: Tensor, pool: Tensor) -> Tensor:
        """One row (m, B, N) for each window, 1 at the prototype of the largest cosine, the first of equals.

        A flat window resembles none: there rounding would choose, and each engine another one.
        """
        directions = pool / pool.square().sum(-1, keepdim=True).sqrt().clamp_min(EPS)
        # of a window that is not flat, the norm is the root of its samples
        cosine = series.transpose(0, 1) @ directions.transpose(1, 2) / math.sqrt(pool.shape[-1])  # (m, B, N)
        near = (cosine >= cosine.amax(-1, keepdim=True) - TIE).to(cosine.dtype)
        first = near.argmax(-1, keepdim=True)
        return (first == torch.arange(pool.shape[1], device=pool.device)).to(cosine.dtype)


class PublishedHead(nn.Module):
    """All features of all sensors through one hidden layer: grows with the square of the sensors."""

    def __init__(self, inputs: int, outputs: int, norm: str) -> None:
        super().__init__()
        self.hidden = nn.Linear(inputs, inputs // 2)
        self.norm: RowNorm | nn.LayerNorm = (
            nn.LayerNorm(inputs // 2) if norm == "layer" else RowNorm(inputs // 2, norm == "normal-batch")
        )
        self.output = nn.Linear(inputs // 2, outputs)

    def forward(self, features: Tensor, normal: int | None) -> Tensor:
        """features (B, m, n, width) -> (B, P)."""
        hidden = self.hidden(features.flatten(1))
        hidden = self.norm(hidden, normal) if isinstance(self.norm, RowNorm) else self.norm(hidden)
        return self.output(F.relu(hidden))


class CompactHead(nn.Module):
    """The mean over patches, a layer of its own for each sensor, and one that joins them."""

    def __init__(self, m: int, width: int, outputs: int) -> None:
        super().__init__()
        self.each = nn.Parameter(torch.randn(m, width, COMPACT) / math.sqrt(width))
        self.output = nn.Linear(m * COMPACT, outputs)

    def forward(self, features: Tensor, normal: int | None) -> Tensor:
        """features (B, m, n, width) -> (B, P)."""
        each = features.mean(2).transpose(0, 1) @ self.each  # (m, B, 16)
        return self.output(each.transpose(0, 1).flatten(1))


class RowNorm(nn.BatchNorm1d):
    """Batch norm whose statistics can be those of the normal rows alone.

    After training it is a factor and an offset, written as such: engines fold it into what stands before it.
    """

    def __init__(self, features: int, of_normal: bool) -> None:
        super().__init__(features)
        self.of_normal = of_normal

    def forward(self, rows: Tensor, normal: int | None = None) -> Tensor:  # type: ignore[override]
        """rows (B, features); normal: how many of them, from the first, are normal, None all."""
        assert self.running_mean is not None and self.running_var is not None
        mean, variance = self.running_mean, self.running_var
        if self.training:
            known = rows[:normal] if self.of_normal else rows
            mean, variance = known.mean(0), known.var(0, correction=0)
            with torch.no_grad():
                assert self.momentum is not None
                self.running_mean.lerp_(mean, self.momentum)
                self.running_var.lerp_(variance, self.momentum)
        factor = self.weight / (variance + self.eps).sqrt()
        return rows * factor + (self.bias - mean * factor)
