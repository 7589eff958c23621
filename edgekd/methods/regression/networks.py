"""The networks: seven students that give one number for an input, and the autoencoder that teaches images.

Source: score regression (arXiv 2310.06047) states seven students of two to five convolutions before dense layers, and a
teacher of five convolutions with pooling, a dense latent and the mirrored decoder; it does not state their widths, so
the students here are named `our-S1` ... `our-S7`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgekd.runtime.errors import UsageError

KERNEL_2D, KERNEL_1D = 3, 5
POOLED = 4  # the teacher halves an image twice
# Slope of the hidden dense layer below zero. With ReLU alone a student that was shown nothing strange turns all of its
# units off for what is, and gives the whole top percent of its scores one value.
LEAK = 0.1


@dataclass(frozen=True)
class Rung:
    """One student of the ladder."""

    channels: tuple[int, ...]
    strides: tuple[int, ...]
    hidden: int
    """Units of the dense layer before the last one; 0: the last layer reads the feature map."""


LADDER = {
    "our-S1": Rung((2, 4), (2, 2), 0),
    "our-S2": Rung((4, 8), (2, 2), 0),
    "our-S3": Rung((4, 8, 8), (2, 2, 1), 8),
    "our-S4": Rung((8, 16, 16), (2, 2, 1), 16),
    "our-S5": Rung((8, 8, 16, 16), (1, 2, 2, 1), 16),
    "our-S6": Rung((8, 16, 16, 32, 32), (1, 2, 1, 2, 1), 16),
    "our-S7": Rung((16, 16, 32, 32, 64), (1, 2, 1, 2, 1), 32),
}


class Student(nn.Module):
    """One student: convolutions with ReLU, a hidden dense layer where its rung has one, and one linear output.

    Parameters: `name` a key of `LADDER`; `shape` of one input: (channels, rows, columns) for an image or signature
    matrices, (sensors, samples) for a window, over which the convolutions are one-dimensional with kernel 5. With the
    default shape the seven have 293, 729, 4,073, 16,145, 16,729, 42,577 and 135,281 parameters.

    The hidden dense layer is written as a convolution as large as its map: the same numbers, but every tool that makes
    convolutions int8 then takes it along. The last layer is `head`; it stays in float, since the tail is what matters.
    `leak` is the slope of the hidden layer's activation below zero.
    """

    def __init__(self, name: str, shape: tuple[int, ...] = (1, 28, 28), leak: float = LEAK) -> None:
        super().__init__()
        if name not in LADDER:
            raise UsageError(f"there is no student {name!r}; there are {', '.join(LADDER)}")
        rung = LADDER[name]
        self.name, self.shape, self.leak = name, tuple(shape), leak
        inputs, *sides = shape
        flat = len(sides) == 2
        convolution: type[nn.Module] = nn.Conv2d if flat else nn.Conv1d
        kernel = KERNEL_2D if flat else KERNEL_1D
        self.convolutions = nn.ModuleList()
        for channels, stride in zip(rung.channels, rung.strides):
            self.convolutions.append(convolution(inputs, channels, kernel, stride=stride, padding=kernel // 2))
            inputs, sides = channels, [-(-side // stride) for side in sides]
        self.hidden = convolution(inputs, rung.hidden, tuple(sides)) if rung.hidden else None
        self.head = nn.Linear(rung.hidden or inputs * math.prod(sides), 1)
        rectified(self.convolutions)
        if self.hidden is not None:
            rectified([self.hidden])

    def forward(self, x: Tensor) -> Tensor:
        """x (batch, *shape) -> g (batch,), the predicted standardized log score."""
        for convolution in self.convolutions:
            x = F.relu(convolution(x))
        if self.hidden is not None:
            x = F.leaky_relu(self.hidden(x), self.leak)
        return self.head(x.flatten(1)).squeeze(1)


class Teacher(nn.Module):
    """The autoencoder that teaches images: 474,273 parameters at 28 x 28.

    `shape` (1, rows, columns), both sides multiples of 4.
    """

    def __init__(self, shape: tuple[int, int, int] = (1, 28, 28), latent: int = 64) -> None:
        super().__init__()
        inputs, rows, columns = shape
        if rows % POOLED or columns % POOLED:
            raise UsageError(
                f"images of {rows} x {columns} pixels: the autoencoder halves them twice, so both sides must be "
                f"multiples of {POOLED}; crop or pad them"
            )
        self.shape = tuple(shape)
        self.middle = (64, rows // POOLED, columns // POOLED)
        self.encoder = nn.ModuleList(
            nn.Conv2d(one, other, 3, padding=1) for one, other in ((inputs, 16), (16, 16), (16, 32), (32, 32), (32, 64))
        )
        self.to_latent = nn.Linear(math.prod(self.middle), latent)
        self.from_latent = nn.Linear(latent, math.prod(self.middle))
        self.decoder = nn.ModuleList(
            nn.Conv2d(one, other, 3, padding=1) for one, other in ((64, 32), (32, 32), (32, 16), (16, 16), (16, inputs))
        )
        rectified([*self.encoder, self.from_latent, *self.decoder[:-1]])

    def forward(self, images: Tensor) -> Tensor:
        """images (batch, 1, rows, columns) in [0, 1] -> their reconstruction."""
        x = images
        for level, convolution in enumerate(self.encoder):
            x = F.relu(convolution(x))
            if level in (1, 3):
                x = F.avg_pool2d(x, 2)
        x = F.relu(self.from_latent(self.to_latent(x.flatten(1)))).unflatten(1, self.middle)
        for level, convolution in enumerate(self.decoder):
            x = convolution(x)
            if level < len(self.decoder) - 1:
                x = F.relu(x)
            if level in (0, 2):
                x = F.interpolate(x, scale_factor=2, mode="nearest")
        return torch.sigmoid(x)

    def errors(self, images: Tensor) -> Tensor:
        """images (batch, 1, rows, columns) -> squared reconstruction error of every pixel, of the same shape."""
        return (images - self(images)).square()


def rectified(layers: Iterable[nn.Module]) -> None:
    """First weights that keep the spread of what passes a ReLU (He et al. 2015): with torch's own a small student needs
    several times the steps, and a deep one may never leave a constant output."""
    for layer in layers:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")  # type: ignore[arg-type]
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]


def parameters(module: nn.Module) -> int:
    """Trained parameters of a network."""
    return sum(parameter.numel() for parameter in module.parameters())
