"""Faults of the simulated plants: what each kind does, and when they come.

Four kinds show within minutes. Two are slow, and on the line do not show in any short window, by construction (see
`plants/line.py`): a slow leak,
which is smaller than the swings of the surge tank that it hides under and differs from them only in that it does not
average out; and a drift of the timer that starts the filter's cycle, each part of which looks like a normal cycle that
happens to linger. Only a history of several swings shows them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edgekd.runtime.errors import UsageError
from edgekd.simulation.plants.line import SWING

SLOW_LEAK, CYCLE_DRIFT = "slow-leak", "cycle-drift"
SLOW = {SLOW_LEAK: "product_rate_lpm", CYCLE_DRIFT: "filter_dp_mbar"}
"""Slow faults, and the sensor in which each would show."""
LEAK = 0.4
"""Full size of a leak, in standard deviations of the tank's imbalance: below what any sensible window-wise limit finds,
six standard deviations of the mean over 800 samples."""
SLOWDOWN = 1.25
"""Full stretch of the filter cycle's period, well within the pace of normal half cycles, five standard deviations of
the mean pace over 800 samples."""
SHIFT_SD = 3.0
"""A mean level shift in standard deviations; plants that state it in a unit state thereby what one deviation is."""
RAMP = 0.25
"""Share of a slow fault over which it grows to its full size."""
SLOW_SHARE, SLOW_MIN, SLOW_MAX = 0.12, 2 * SWING, 8 * SWING
"""Length of a slow fault: an eighth of the recording, but two to eight swings."""
MAX_SHARE = 0.36
"""Share of the recording that faults may take when kinds come more than once."""
LEAD_SHARE, LEAD_MIN, LEAD_MAX = 0.1, 200, 1000
"""Quiet beginning, so that a detector is warm before the first fault."""
MIN_GAP, FURTHER_GAP = 100, 400
"""Quiet samples between two faults, and for which kinds come more than once."""


@dataclass(frozen=True)
class Event:
    """One fault."""

    kind: str
    start: int
    """First faulty sample."""
    end: int
    """First sample after it."""
    sensors: tuple[str, ...]
    """Where it is."""


def _spike_burst(rng: np.random.Generator, x: np.ndarray, sd: float) -> np.ndarray:
    hit = rng.random(len(x)) < 0.35
    hit[0] = True
    return x + hit * rng.choice((-1.0, 1.0), len(x)) * rng.uniform(4, 8, len(x)) * sd


def _stuck_sensor(rng: np.random.Generator, x: np.ndarray, sd: float) -> np.ndarray:
    return np.full_like(x, x[0])


def _correlation_break(rng: np.random.Generator, x: np.ndarray, sd: float) -> np.ndarray:
    """Moves against what drives it, from where it was and within a normal range."""
    return np.clip(2 * x[0] - x, x[0] - 2.5 * sd, x[0] + 2.5 * sd)


def _level_shift(rng: np.random.Generator, x: np.ndarray, sd: float) -> np.ndarray:
    onset = np.minimum(np.arange(len(x)) / 5, 1)
    return x + onset * rng.choice((-1.0, 1.0)) * rng.uniform(2.5, 3.5) * sd


@dataclass(frozen=True)
class QuickKind:
    """A fault of one sensor that shows at once."""

    shortest: int
    longest: int
    """In samples."""
    distort: Callable[[np.random.Generator, np.ndarray, float], np.ndarray]
    """Readings (k,) during the fault from the healthy ones, and the sensor's standard deviation."""


QUICK: dict[str, QuickKind] = {
    "spike-burst": QuickKind(20, 50, _spike_burst),
    "stuck-sensor": QuickKind(80, 150, _stuck_sensor),
    "correlation-break": QuickKind(90, 180, _correlation_break),
    "level-shift": QuickKind(90, 180, _level_shift),
}
KINDS = (*QUICK, *SLOW)


def schedule(rng: np.random.Generator, samples: int, kinds: Sequence[str]) -> list[tuple[str, int, int]]:
    """(kind, start, end) of faults spread over a recording: every kind once, then again as far as there is quiet time.

    Raises UsageError saying how many samples these kinds need.
    """
    if not kinds:
        return []
    one_round = sum((QUICK[kind].longest if kind in QUICK else SLOW_MIN) + MIN_GAP for kind in kinds)
    needed = max(one_round + LEAD_MIN, int(np.ceil(one_round / (1 - LEAD_SHARE))))
    if samples < needed:
        raise UsageError(
            f"{samples} samples are too few for {', '.join(kinds)}; give at least {needed}, or fewer kinds"
        )
    lead = int(np.clip(LEAD_SHARE * samples, LEAD_MIN, LEAD_MAX))
    chosen = _shuffled(rng, kinds, samples)
    while further := _further(rng, kinds, samples, lead, chosen):
        chosen += further
    free = samples - lead - sum(length for _, length in chosen) - MIN_GAP * len(chosen)
    # an even share of the quiet time after each fault, varied by up to two fifths
    shares = rng.uniform(0.6, 1.4, len(chosen))
    gaps = MIN_GAP + free * shares / shares.sum()
    events, at = [], float(lead)
    for (kind, length), gap in zip(chosen, gaps):
        events.append((kind, int(at), int(at) + length))
        at += length + gap
    return events


def _further(
    rng: np.random.Generator, kinds: Sequence[str], samples: int, lead: int, chosen: list[tuple[str, int]]
) -> list[tuple[str, int]]:
    """One more round of all kinds, or of the quick ones, where it fits."""
    for again in (kinds, [kind for kind in kinds if kind in QUICK]):
        more = _shuffled(rng, again, samples)
        lengths = [length for _, length in chosen + more]
        if sum(lengths) <= MAX_SHARE * samples and lead + sum(lengths) + FURTHER_GAP * len(lengths) <= samples:
            return more
    return []


def _shuffled(rng: np.random.Generator, kinds: Sequence[str], samples: int) -> list[tuple[str, int]]:
    """Each kind once, in any order, with its length."""
    return [(kind, _length(rng, kind, samples)) for kind in rng.permutation(list(kinds)).tolist()]


def _length(rng: np.random.Generator, kind: str, samples: int) -> int:
    if kind in QUICK:
        return int(rng.integers(QUICK[kind].shortest, QUICK[kind].longest + 1))
    return int(np.clip(SLOW_SHARE * samples, SLOW_MIN, SLOW_MAX))


def slow_profile(samples: int, spans: Sequence[tuple[int, int]]) -> np.ndarray:
    """(T,) 0 to 1: how much of its full size a slow fault has at each sample; it grows, stays, and is mended."""
    profile = np.zeros(samples)
    for start, end in spans:
        profile[start:end] = np.minimum(np.arange(1, end - start + 1) / (RAMP * (end - start)), 1)
    return profile
