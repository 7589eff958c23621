"""Long arrays made small enough for a page: bins of samples, each with its lowest and highest value, in 16 bits.

Bins are narrow where something happened and wide elsewhere, so that one array serves the month and the minute.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np

BYTES = 1_900_000
"""Of a page, for the sensors' curves and contributions."""
BYTES_OF_BIN = 8
"""A bin of one sensor: lowest, highest, two contributions, in base64."""
MOST_BINS, FEWEST_BINS = 6000, 300
FINEST = 1e-3
"""Contribution, in thresholds, that is told from none."""


def bin_starts(length: int, interesting: np.ndarray, starts: Sequence[int], sensors: int) -> np.ndarray:
    """int64 (B,): first sample of each bin. interesting: bool (T,), the samples that half of the bins are for.

    No bin crosses an entity's start, unless there are more entities than a page can show.
    """
    bins = min(max(BYTES // (BYTES_OF_BIN * sensors), FEWEST_BINS), MOST_BINS)
    if length <= bins:
        return np.arange(length)
    weight = np.full(length, 1 / length)
    if interesting.any():
        weight += interesting / interesting.sum()
    passed = np.concatenate([[0], np.cumsum(weight)[:-1]])
    edges = np.searchsorted(passed, np.linspace(0, passed[-1], bins, endpoint=False))
    return np.union1d(edges, starts) if len(starts) <= bins // 4 else np.union1d(edges, [0])


def lowest_highest(values: np.ndarray, bins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of float (T,) or (T, n) in each bin: (B,) or (B, n) each, NaN where all are."""
    return np.fmin.reduceat(values, bins, axis=0), np.fmax.reduceat(values, bins, axis=0)


def curves(values: np.ndarray, bins: np.ndarray) -> dict[str, Any]:
    """Envelopes of float32 (T, n), finite; item i of `low` and `high` is from + i × step of its sensor."""
    low, high = lowest_highest(values, bins)
    start, end = low.min(0).astype(float), high.max(0).astype(float)
    step = np.where(end > start, (end - start) / 65535, 1.0)
    packed = {name: np.round((part - start) / step).T.astype("<u2") for name, part in (("low", low), ("high", high))}
    return {"from": start.tolist(), "step": step.tolist(), **{name: base64_of(part) for name, part in packed.items()}}


def contributions(shares: np.ndarray, unit: float) -> dict[str, Any]:
    """Contributions (B, n) in 8 bits of their logarithm: item i is unit × FINEST × (exp(i × step) - 1)."""
    logs = np.log1p(np.maximum(np.nan_to_num(shares), 0) / (unit * FINEST))
    step = max(float(logs.max(initial=0)), 1.0) / 255
    return {"unit": unit * FINEST, "step": step, "data": base64_of(np.round(logs / step).T.astype("u1"))}


def base64_of(array: np.ndarray) -> str:
    """Its bytes, little-endian."""
    array = np.ascontiguousarray(array)
    return base64.b64encode(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()).decode()
