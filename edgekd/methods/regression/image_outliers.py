"""Outliers made from normal images: an alternative to a set of other images, which the source found less useful."""

from __future__ import annotations

import torch
from torch import Tensor

KINDS = ("gaussian", "salt-and-pepper", "erase", "shuffle")
BLOCK = 4  # pixels; blocks of this side are shuffled


def noisy(images: Tensor, kind: str, draw: torch.Generator) -> Tensor:
    """Damaged copies of images (B, 1, rows, columns) in [0, 1].

    kind: "gaussian" of deviation .1 to .5; "salt-and-pepper" on 5 to 30 % of the pixels; "erase" a rectangle of a
    fifth to a half of each side; "shuffle" blocks of 4 x 4 pixels; "mixed" one of these for each image.
    """
    if kind != "mixed":
        return DAMAGES[kind](images, draw)
    chosen = torch.randint(len(KINDS), (len(images),), generator=draw)
    damaged = images.clone()
    for number, name in enumerate(KINDS):
        damaged[chosen == number] = DAMAGES[name](images[chosen == number], draw)
    return damaged


def _between(low: float, high: float, images: Tensor, draw: torch.Generator) -> Tensor:
    """One number for each image, (B, 1, 1, 1)."""
    return low + (high - low) * torch.rand(len(images), 1, 1, 1, generator=draw)


def _gaussian(images: Tensor, draw: torch.Generator) -> Tensor:
    return (images + _between(0.1, 0.5, images, draw) * torch.randn(images.shape, generator=draw)).clamp(0.0, 1.0)


def _salt_and_pepper(images: Tensor, draw: torch.Generator) -> Tensor:
    hit = torch.rand(images.shape, generator=draw) < _between(0.05, 0.3, images, draw)
    return torch.where(hit, torch.randint(2, images.shape, generator=draw).to(images.dtype), images)


def _erase(images: Tensor, draw: torch.Generator) -> Tensor:
    inside = torch.ones(images.shape, dtype=torch.bool)
    for axis in (2, 3):
        side = images.shape[axis]
        length = _between(0.2, 0.5, images, draw) * side
        start = _between(0.0, 1.0, images, draw) * (side - length)
        place = torch.arange(side).reshape(1, 1, -1, 1) if axis == 2 else torch.arange(side).reshape(1, 1, 1, -1)
        inside &= (place >= start.floor()) & (place < (start + length).ceil())
    return torch.where(inside, _between(0.0, 1.0, images, draw), images)


def _shuffle(images: Tensor, draw: torch.Generator) -> Tensor:
    count, _, rows, columns = images.shape
    grid = images.reshape(count, rows // BLOCK, BLOCK, columns // BLOCK, BLOCK).transpose(2, 3)
    blocks = grid.reshape(count, rows // BLOCK * (columns // BLOCK), BLOCK, BLOCK)  # (B, blocks, 4, 4)
    order = torch.rand(blocks.shape[:2], generator=draw).argsort(1)
    mixed = blocks.gather(1, order[..., None, None].expand_as(blocks))
    return mixed.reshape(grid.shape).transpose(2, 3).reshape(images.shape)


DAMAGES = {"gaussian": _gaussian, "salt-and-pepper": _salt_and_pepper, "erase": _erase, "shuffle": _shuffle}
