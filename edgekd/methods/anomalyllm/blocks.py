"""Transformer blocks for a handful of tokens: GPT-2's, BERT's and the student's are one module in three settings.

Written out with dense layers on rows, so that the exported graph is a few operators that every engine has.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FORBIDDEN = -1e9  # added to the attention of a token to a later one; its exponential is zero


class Block(nn.Module):
    """Attention, then two dense layers, each beside a path around it.

    norm_first: normalize what goes into each (GPT-2) and not what comes out (BERT, the student).
    activation: "relu", "gelu", or "gelu_new", GPT-2's, whose error function is approximated by a tanh.
    """

    def __init__(
        self, width: int, heads: int, hidden: int, *, norm_first: bool, activation: str, eps: float = 1e-5
    ) -> None:
        super().__init__()
        self.heads, self.norm_first, self.activation = heads, norm_first, activation
        self.norm1, self.norm2 = nn.LayerNorm(width, eps), nn.LayerNorm(width, eps)
        self.attend_in = nn.Linear(width, 3 * width)  # queries, keys, values
        self.attend_out = nn.Linear(width, width)
        self.feed_in = nn.Linear(width, hidden)
        self.feed_out = nn.Linear(hidden, width)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """x (B, n, width), mask (n, n) added to the attention -> (B, n, width)."""
        if self.norm_first:
            x = x + self.attend(self.norm1(x), mask)
            return x + self.feed(self.norm2(x))
        x = self.norm1(x + self.attend(x, mask))
        return self.norm2(x + self.feed(x))

    def attend(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Scaled dot-product attention of all heads."""
        batch, n, width = x.shape
        q, k, v = (
            part.reshape(batch, n, self.heads, -1).transpose(1, 2)  # (B, heads, n, width / heads)
            for part in dense(self.attend_in, x).split(width, -1)
        )
        weights = (q / math.sqrt(width // self.heads)) @ k.transpose(-1, -2)  # (B, heads, n, n)
        weights = (weights if mask is None else weights + mask).softmax(-1)
        return dense(self.attend_out, (weights @ v).transpose(1, 2).reshape(batch, n, width))

    def feed(self, x: Tensor) -> Tensor:
        """The two dense layers."""
        hidden = dense(self.feed_in, x)
        if self.activation == "relu":
            hidden = F.relu(hidden)
        else:
            hidden = F.gelu(hidden, approximate="tanh" if self.activation == "gelu_new" else "none")
        return dense(self.feed_out, hidden)


def dense(layer: nn.Linear, x: Tensor) -> Tensor:
    """A dense layer on (B, n, features) as one product of two matrices: its weights keep their name when exported."""
    batch, n, features = x.shape
    return layer(x.reshape(batch * n, features)).reshape(batch, n, -1)


class PatchEmbedding(nn.Module):
    """A convolution over the patch axis, kernel 3, circular, no bias, written as a dense layer on three patches."""

    def __init__(self, inputs: int, width: int, dropout: float) -> None:
        super().__init__()
        self.weights = nn.Linear(3 * inputs, width, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, patches: Tensor) -> Tensor:
        """patches (B, n, inputs) -> (B, n, width)."""
        before = torch.cat([patches[:, -1:], patches[:, :-1]], 1)
        after = torch.cat([patches[:, 1:], patches[:, :1]], 1)
        return self.dropout(dense(self.weights, torch.cat([before, patches, after], -1)))


def causal_mask(n: int) -> Tensor:
    """(n, n): a token sees itself and those before it."""
    return torch.full((n, n), FORBIDDEN).triu(1)


def sinusoids(n: int, width: int) -> Tensor:
    """Fixed positions (n, width) of Vaswani et al. 2017."""
    rates = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))
    angles = torch.arange(n).unsqueeze(1) * rates  # (n, width / 2)
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(1)[:, :width]
