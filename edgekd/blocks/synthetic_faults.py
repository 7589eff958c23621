"""Kinds of damage to a stretch of samples: what stands in for anomalies where there are none to train on.

Of the student of a series (`edgekd.methods.regression`) whole recordings are damaged, for any teacher to score; of
AnomalyLLM single windows. The kinds are those of the latter's default set and two more.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Rows = np.ndarray  # (k, sensors): a stretch of the chosen sensors, in standard deviations of each
Kind = Callable[[Rows, np.random.Generator], Rows]

JITTER, SCALING = 0.3, 0.8  # deviation of the added and of the multiplied noise
SPIKE, SHIFT = (3.0, 12.0), (1.0, 8.0)  # sizes, in standard deviations; drawn evenly in their logarithm
LEAST_MOVING = 0.2  # of what stands still, the share of its usual deviation that damage is measured by


def struck(
    rows: np.ndarray, around: np.ndarray, deviation: np.ndarray, kind: Kind, rng: np.random.Generator
) -> np.ndarray:
    """A stretch with damage of one kind: rows (k, s) and the window (l, s) `around` it, deviation (s,) of all samples.

    Damage is measured by what the window moves by just now; where it stands still, by what it usually moves by.
    """
    center = around.mean(0)
    unit = np.maximum(around.std(0), LEAST_MOVING * deviation)
    return kind((rows - center) / unit, rng) * unit + center


def sensors_hit(sensors: int, rng: np.random.Generator) -> int:
    """How many of some sensors are hit: one to all, few as likely as many."""
    return int(np.exp(rng.uniform(0.0, np.log(sensors + 1)))) if sensors > 1 else 1


def _size(rng: np.random.Generator, bounds: tuple[float, float], shape: tuple[int, ...]) -> np.ndarray:
    size = np.exp(rng.uniform(np.log(bounds[0]), np.log(bounds[1]), shape))
    return size * rng.choice([-1.0, 1.0], shape)


def scaled(rows: Rows, rng: np.random.Generator) -> Rows:
    return rows * rng.normal(2.0, SCALING, (len(rows), 1))


def jittered(rows: Rows, rng: np.random.Generator) -> Rows:
    return rows + rng.normal(0.0, JITTER, rows.shape)


def burst(rows: Rows, rng: np.random.Generator) -> Rows:
    return rows + rng.normal(0.0, 1.0, rows.shape) * np.abs(_size(rng, SHIFT, (1, rows.shape[1])))


def spiked(rows: Rows, rng: np.random.Generator) -> Rows:
    rows = rows.copy()
    hit = rng.choice(len(rows), min(len(rows), int(rng.integers(1, 4))), replace=False)
    rows[hit] += _size(rng, SPIKE, (len(hit), rows.shape[1]))
    return rows


def shifted(rows: Rows, rng: np.random.Generator) -> Rows:
    return rows + _size(rng, SHIFT, (1, rows.shape[1]))


def drifted(rows: Rows, rng: np.random.Generator) -> Rows:
    return rows + np.linspace(0.0, 1.0, len(rows))[:, None] * _size(rng, SHIFT, (1, rows.shape[1]))


def flat(rows: Rows, rng: np.random.Generator) -> Rows:
    return np.broadcast_to(rows[0], rows.shape)


def swapped(rows: Rows, rng: np.random.Generator) -> Rows:
    """Two halves change places."""
    return np.roll(rows, len(rows) // 2, axis=0)


def at_another_speed(rows: Rows, rng: np.random.Generator) -> Rows:
    """Twice or half as fast."""
    at = np.arange(len(rows))
    return rows[(2 * at) % len(rows) if rng.random() < 0.5 else at // 2]


def turned(rows: Rows, rng: np.random.Generator) -> Rows:
    """Upside down: what sensors have to do with each other is lost, what each does alone is not."""
    return -rows


KINDS: tuple[Kind, ...] = (
    scaled, jittered, burst, spiked, shifted, drifted, flat, swapped, at_another_speed, turned,
)  # fmt: skip
