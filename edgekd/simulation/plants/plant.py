"""What a plant declares: how often it is sampled, its transmitters, the sizes of its faults, and how it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Transmitter:
    """One sensor; everything is in the unit that the name ends in."""

    name: str
    noise: float
    """Standard deviation of the measurement noise."""
    step: float
    """Resolution: readings are multiples of it."""
    shift: float
    """Size of a level shift, varied by a sixth; spikes are 1.3 to 2.7 times as high, and a broken correlation strays by
    five sixths of it at most."""
    low: float = 0.0
    """The least that it can say."""


@dataclass(frozen=True)
class Causes:
    """What a run is made from, each (T,): the clock and the two slow faults."""

    times_s: np.ndarray
    period_s: float
    leak: np.ndarray
    """In `Plant.leak_unit`; 0 is normal."""
    drift_s: np.ndarray
    """Seconds by which the plant's cycle is late; 0 is normal."""


@dataclass(frozen=True)
class Plant:
    """One kind of plant."""

    period_s: float
    transmitters: tuple[Transmitter, ...]
    switches: tuple[str, ...]
    """Commands and states that are logged as 0 or 1, after the transmitters; faults never touch them."""
    leak: float
    """Full size of a slow leak."""
    leak_unit: str
    leaks_from: str
    """The sensor named in a slow leak's event."""
    cycle_s: float
    """Length of the cycle, 0 where the plant has none."""
    drift_s: float
    """Full size of a cycle drift, 0 where the plant has no cycle."""
    drifts_in: str
    """The sensor named in a cycle drift's event."""
    run: Callable[[np.random.Generator, Causes], dict[str, np.ndarray]]
    """True values (T,) of each transmitter and switch. Slow faults change no random number that it draws."""
