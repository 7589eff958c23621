"""Outliers of a series: copies of the training recording with damage laid into them, for the teacher to score.

Damage is done to recordings, not to single windows, so that any teacher can score it, one that carries state included.
The kinds are those of AnomalyLLM's default set of synthetic anomalies, on a few sensors or on many.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from edgekd.data.recording import Recording

Rows = np.ndarray  # (k, sensors): a stretch of the chosen sensors, in standard deviations of each

JITTER, SCALING = 0.3, 0.8  # deviation of the added and of the multiplied noise
SPIKE, SHIFT = (3.0, 12.0), (1.0, 8.0)  # sizes, in standard deviations; drawn evenly in their logarithm


def damaged(recording: Recording, span: int, seed: int) -> Recording:
    """A copy with stretches of damage, one every two `span` samples or so, in the sensors that vary.

    span: samples that one window of the student looks at; a stretch is as long as up to one of them.
    """
    rng = np.random.default_rng(seed)
    values = recording.values.astype(np.float64)
    deviation = values.std(0)
    varying = np.flatnonzero(deviation > 0)
    for start, end in recording.bounds:
        at = start + int(rng.integers(0, span))
        while at + 4 <= end:
            stop = min(end, at + _length(rng, span))
            chosen = rng.choice(varying, _count(rng, len(varying)), replace=False)
            window = values[max(start, stop - span) : stop, chosen]
            center = window.mean(0)
            # of what moves, its own size just now; of what stands still, what it usually moves by
            unit = np.maximum(window.std(0), 0.2 * deviation[chosen])
            kind = KINDS[rng.integers(len(KINDS))]
            values[at:stop, chosen] = kind((values[at:stop, chosen] - center) / unit, rng) * unit + center
            at = stop + int(rng.integers(span // 2, 2 * span + 1))
    return replace(
        recording,
        values=np.ascontiguousarray(values, np.float32),
        labels=None,
        source=f"{recording.source} with damage",
    )


def _length(rng: np.random.Generator, span: int) -> int:
    """Samples of one stretch: 4 to `span`, short ones as likely as long ones."""
    return int(np.exp(rng.uniform(np.log(4), np.log(max(5, span)))))


def _count(rng: np.random.Generator, sensors: int) -> int:
    """Sensors that are hit: one to all, few as likely as many."""
    return int(np.exp(rng.uniform(0.0, np.log(sensors + 1)))) if sensors > 1 else 1


def _size(rng: np.random.Generator, bounds: tuple[float, float], shape: tuple[int, ...]) -> np.ndarray:
    size = np.exp(rng.uniform(np.log(bounds[0]), np.log(bounds[1]), shape))
    return size * rng.choice([-1.0, 1.0], shape)


def _scaled(rows: Rows, rng: np.random.Generator) -> Rows:
    return rows * rng.normal(2.0, SCALING, (len(rows), 1))


def _jittered(rows: Rows, rng: np.random.Generator) -> Rows:
    return rows + rng.normal(0.0, JITTER, rows.shape)


def _burst(rows: Rows, rng: np.random.Generator) -> Rows:
    return rows + rng.normal(0.0, 1.0, rows.shape) * np.abs(_size(rng, SHIFT, (1, rows.shape[1])))


def _spiked(rows: Rows, rng: np.random.Generator) -> Rows:
    rows = rows.copy()
    hit = rng.choice(len(rows), min(len(rows), int(rng.integers(1, 4))), replace=False)
    rows[hit] += _size(rng, SPIKE, (len(hit), rows.shape[1]))
    return rows


def _shifted(rows: Rows, rng: np.random.Generator) -> Rows:
    return rows + _size(rng, SHIFT, (1, rows.shape[1]))


def _drifted(rows: Rows, rng: np.random.Generator) -> Rows:
    return rows + np.linspace(0.0, 1.0, len(rows))[:, None] * _size(rng, SHIFT, (1, rows.shape[1]))


def _flat(rows: Rows, rng: np.random.Generator) -> Rows:
    return np.broadcast_to(rows[0], rows.shape)


def _swapped(rows: Rows, rng: np.random.Generator) -> Rows:
    """Two halves change places."""
    return np.roll(rows, len(rows) // 2, axis=0)


def _at_another_speed(rows: Rows, rng: np.random.Generator) -> Rows:
    """Twice or half as fast."""
    at = np.arange(len(rows))
    return rows[(2 * at) % len(rows) if rng.random() < 0.5 else at // 2]


def _turned(rows: Rows, rng: np.random.Generator) -> Rows:
    """Upside down: what sensors have to do with each other is lost, what each does alone is not."""
    return -rows


KINDS: tuple[Callable[[Rows, np.random.Generator], Rows], ...] = (
    _scaled, _jittered, _burst, _spiked, _shifted, _drifted, _flat, _swapped, _at_another_speed, _turned,
)  # fmt: skip
