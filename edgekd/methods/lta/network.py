"""The network of both sides: a convolutional-recurrent autoencoder over signature matrices.

Source: MSCRED (arXiv 1811.08055) for encoder, ConvLSTM, attention and decoder; the distilled-MSCRED paper for the
two-level student. With their defaults the two have 6,687,843 and 408,611 parameters, the published numbers. The
recurrence runs over the steps of a window; there are no peepholes; every convolution has a bias, and each gate one.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

KERNELS = (3, 3, 2, 2)  # levels 3 and 4 halve the map with 2x2 kernels, published layer table


def level_sizes(n: int, levels: int) -> list[int]:
    """Side of the feature map at each level: n, then half, rounded up."""
    sizes = [n]
    while len(sizes) < levels:
        sizes.append(-(-sizes[-1] // 2))
    return sizes


class Separable(nn.Sequential):
    """3x3 convolution as a depthwise and a pointwise one."""

    def __init__(self, inputs: int, outputs: int, kernel: int, padding: int) -> None:
        super().__init__(
            nn.Conv2d(inputs, inputs, kernel, padding=padding, groups=inputs), nn.Conv2d(inputs, outputs, 1)
        )


class ConvLSTM(nn.Module):
    """ConvLSTM cell without peepholes: i, f, o = sigmoid(W [x, h] + b), c' = f c + i tanh(...), h' = o tanh(c').

    One convolution over input and hidden map together: half the feature maps between the two that separate ones
    would add up, which is what an int8 step spends its time on.
    """

    def __init__(self, channels: int, separable: bool = False) -> None:
        super().__init__()
        gates = Separable if separable else nn.Conv2d
        self.gates = gates(2 * channels, 4 * channels, 3, padding=1)

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """x, h, c (batch, channels, s, s) -> h, c."""
        i, f, o, g = self.gates(torch.cat([x, h], 1)).chunk(4, dim=1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c


def unroll(cell: nn.Module, x: Tensor, steps: int) -> list[Tensor]:
    """A ConvLSTM from zero: x (steps * batch, channels, s, s) -> hidden map of every step, (batch, channels, s, s)."""
    parts = x.chunk(steps)
    h = c = parts[0] * 0.0  # not a constant: the exporter would write it into the file
    hidden = []
    for part in parts:
        h, c = cell(part, h, c)
        hidden.append(h)
    return hidden


class Down(nn.Module):
    """Encoder convolution of one level; an odd map is padded at its bottom and right for a 2x2 kernel."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=1 if kernel == 3 else 0)
        self.pad_odd = kernel == 2

    def forward(self, x: Tensor) -> Tensor:
        if self.pad_odd and x.shape[-1] % 2:
            x = F.pad(x, (0, 1, 0, 1))
        return self.conv(x)


class Up(nn.Module):
    """Decoder transposed convolution of one level, to the exact side of the level above."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, side: int) -> None:
        super().__init__()
        self.side = side
        out_pad = 1 if kernel == 3 and stride == 2 and side % 2 == 0 else 0
        self.conv = nn.ConvTranspose2d(
            inputs, outputs, kernel, stride=stride, padding=1 if kernel == 3 else 0, output_padding=out_pad
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)[..., : self.side, : self.side]


class SignatureNetwork(nn.Module):
    """Signature matrices of a sequence of steps to the matrices of one step.

    Parameters: `n_sensors` side of the matrices; `levels` 4 for the teacher, 2 for the student; `channels` of the
    first level, doubled at each next one; `separable` gates; `output` "selu" (published) or "linear" (SELU cannot go
    below -1.76, standardized matrices do); `attention_scale` chi, or 0 for the square root of the elements of a map.
    """

    def __init__(
        self,
        n_sensors: int,
        levels: int,
        channels: int = 32,
        separable: bool = False,
        output: str = "selu",
        attention_scale: float = 5.0,
    ) -> None:
        super().__init__()
        self.levels = levels
        self.output = output
        self.attention_scale = attention_scale
        widths = [channels * 2**level for level in range(levels)]
        sides = level_sizes(n_sensors, levels)
        self.map_shapes = [(width, side, side) for width, side in zip(widths, sides)]
        self.encoder = nn.ModuleList()
        self.recurrent = nn.ModuleList()
        self.decoder = nn.ModuleList()
        for level, (width, kernel) in enumerate(zip(widths, KERNELS)):
            stride = 1 if level == 0 else 2
            above, out = (3, 3) if level == 0 else (widths[level - 1], widths[level - 1])
            deepest = level == levels - 1
            self.encoder.append(Down(above, width, kernel, stride))
            self.recurrent.append(ConvLSTM(width, separable))
            self.decoder.append(Up(width if deepest else 2 * width, out, kernel, stride, sides[max(0, level - 1)]))

    def encode(self, matrices: Tensor) -> list[Tensor]:
        """(batch, 3, n, n) -> the encoder's map at every level."""
        maps, x = [], matrices
        for down in self.encoder:
            x = F.selu(down(x))
            maps.append(x)
        return maps

    def attend(self, hidden: list[Tensor]) -> Tensor:
        """Hidden maps of all steps, newest last -> their mean weighted by likeness to the newest (softmax)."""
        if len(hidden) == 1:
            return hidden[0]
        # sums run over up to 10^5 products: in full precision under any autocast
        newest = hidden[-1].float()
        scale = self.attention_scale or math.sqrt(newest[0].numel())
        logits = torch.stack([(h.float() * newest).sum((1, 2, 3)) for h in hidden], 1) / scale  # (batch, steps)
        weights = logits.softmax(1).to(hidden[-1].dtype)
        # a sum of maps, not a matrix product: it leaves the memory layout of the maps as it is
        attended = hidden[0] * weights[:, 0].reshape(-1, 1, 1, 1)
        for step, h in enumerate(hidden[1:], 1):
            attended = attended + h * weights[:, step].reshape(-1, 1, 1, 1)
        return attended

    def decode(self, attended: list[Tensor]) -> Tensor:
        """Attended maps of all levels -> (batch, 3, n, n)."""
        x = attended[-1]
        for level in range(self.levels - 1, 0, -1):
            x = torch.cat([F.selu(self.decoder[level](x)), attended[level - 1]], 1)
        with torch.autocast(x.device.type, enabled=False):  # the residual is a difference of near-equal numbers
            x = self.decoder[0](x.float())
        return F.selu(x) if self.output == "selu" else x

    def forward(self, matrices: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(batch, steps, 3, n, n) -> reconstruction (batch, 3, n, n) and the attended map of every level."""
        steps = matrices.shape[1]
        # steps first, so that one step of all windows is one piece of memory
        maps = self.encode(matrices.transpose(0, 1).flatten(0, 1))
        attended = [self.attend(unroll(recurrent, x, steps)) for recurrent, x in zip(self.recurrent, maps)]
        return self.decode(attended), attended

    def advance(
        self, matrices: Tensor, carried: list[list[Tensor]], attend: bool
    ) -> tuple[Tensor, list[Tensor], list[list[Tensor]]]:
        """One step of the carried form.

        matrices (batch, 3, n, n); carried: for each level [h, c, older hidden maps, newest first ...]; `attend` over
        the carried hidden maps as well. Returns the reconstruction, the attended map of every level, and what to carry
        on.
        """
        attended, following = [], []
        for recurrent, x, (h, c, *older) in zip(self.recurrent, self.encode(matrices), carried):
            new_h, new_c = recurrent(x, h, c)
            past = [h, *older]
            attended.append(self.attend([*reversed(past), new_h]) if attend else new_h)
            following.append([new_h, new_c, *past[: len(older)]])
        return self.decode(attended), attended, following


class Teacher(SignatureNetwork):
    """The published teacher: four levels, 6,687,843 parameters."""

    def __init__(self, n_sensors: int, levels: int = 4, **options: Any) -> None:
        super().__init__(n_sensors, levels, **options)


class Student(SignatureNetwork):
    """The published student: two levels, 408,611 parameters (the accumulator is not among them)."""

    def __init__(self, n_sensors: int, levels: int = 2, **options: Any) -> None:
        super().__init__(n_sensors, levels, **options)
