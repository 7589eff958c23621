"""A simulated process line: what drives it, and the sensors that watch it.

Feed is pumped by a motor through a filter and a surge tank to the product side. Production follows the clock and the
week; loads follow production, temperatures follow loads with a thermal lag, and everything outside follows the weather.
Two swings are there so that slow faults can hide under them (`edgekd/simulation/faults.py`):

* the surge tank has no level transmitter, and its level control swings: product runs ahead of feed and behind it for
  hours. Level stays in bounds, so the imbalance of the two rates averages out over a few swings, and only there.
* the filter regenerates in a cycle that hurries, lingers and varies in height, but is started by a timer, so that its
  mean length over a few cycles does not vary.

Constants are those of one particular plant: a seed changes weather, demand and noise, never the plant.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edgekd.simulation.drivers import DAY_S, lag, noise_like

SWING = 240
"""Samples of a swing of the surge tank and of a filter cycle. In samples, not in minutes: what a short window can show
depends on how many samples it has, and detectors here look at up to 100."""
SWING_LPM = 18.0
"""Standard deviation of the imbalance between feed and product; 2 % of the feed."""


JITTER, JITTER_MEMORY = 0.6, 60
"""How far the filter cycle strays from its timer, in radians, and for how many samples."""


@dataclass(frozen=True)
class Line:
    """What goes on in one line, each (T,); the sensors are read off it."""

    throughput: np.ndarray
    """Share of the nominal feed, about 0.3 to 1."""
    imbalance_lpm: np.ndarray
    """Feed less product, with the leak."""
    fouling: np.ndarray
    """Filter cycle, mean 0, about -1.5 to 1.5."""
    load: np.ndarray
    """Share of the motor's nominal power."""
    bearing_heat: np.ndarray
    winding_heat: np.ndarray
    water_heat: np.ndarray
    """Load as bearing, winding and cooling water feel it, after their lags."""
    ambient_c: np.ndarray
    wear: np.ndarray
    """Slow wandering of everything mechanical, mean 0, standard deviation 1."""


@dataclass(frozen=True)
class Sensor:
    """One transmitter."""

    name: str
    read: Callable[[Line], np.ndarray]
    """True value in the unit that the name ends in."""
    noise: float
    """Standard deviation of the measurement noise, in that unit."""
    step: float
    """Resolution: readings are multiples of it."""


SENSORS = (
    # the first three are enough for every kind of fault, so a plant of any size has them
    Sensor("feed_rate_lpm", lambda p: 900 * p.throughput, 2.5, 0.5),
    Sensor("product_rate_lpm", lambda p: 0.97 * 900 * lag(p.throughput, 4) - p.imbalance_lpm, 2.5, 0.5),
    Sensor("filter_dp_mbar", lambda p: 180 + 45 * p.fouling + 70 * p.throughput**2, 1.5, 0.5),
    Sensor("motor_load_kw", lambda p: 75 * p.load, 0.5, 0.1),
    Sensor("bearing_temp_c", lambda p: 24 + 0.5 * p.ambient_c + 32 * p.bearing_heat + 0.6 * p.wear, 0.15, 0.1),
    Sensor("winding_temp_c", lambda p: 31 + 0.4 * p.ambient_c + 55 * p.winding_heat, 0.3, 0.1),
    Sensor("discharge_pressure_bar", lambda p: 3.2 + 2.6 * p.throughput**2 + 0.12 * p.fouling, 0.015, 0.01),
    Sensor("cooling_flow_lpm", lambda p: 60 + 55 * p.winding_heat + 0.5 * p.ambient_c, 0.6, 0.1),
    Sensor("cooling_out_temp_c", lambda p: 12 + 0.7 * p.ambient_c + 11 * p.water_heat, 0.1, 0.1),
    Sensor("ambient_temp_c", lambda p: p.ambient_c, 0.1, 0.1),
    Sensor("motor_current_a", lambda p: 18 + 112 * p.load, 0.7, 0.1),
    Sensor("vibration_mm_s", lambda p: 1.1 + 1.6 * p.throughput**2 + 0.1 * p.wear, 0.04, 0.01),
    Sensor("oil_pressure_bar", lambda p: 4.4 + 0.9 * p.throughput - 0.012 * (24 + 32 * p.bearing_heat), 0.02, 0.01),
    Sensor("valve_position_pct", lambda p: 22 + 60 * p.throughput + 4 * p.fouling, 0.3, 0.1),
    Sensor("suction_pressure_bar", lambda p: 1.9 - 0.7 * p.throughput**2 + 0.02 * p.wear, 0.01, 0.01),
    Sensor("pump_speed_rpm", lambda p: 640 + 850 * p.throughput, 3.0, 1.0),
)
"""One line's sensors, in the order in which a smaller plant has them; a larger one has more lines."""


def swing(rng: np.random.Generator, samples: int) -> np.ndarray:
    """(T,) imbalance of the surge tank: standard deviation 1, period about SWING, and no mean in the long run.

    The tank's level is a noise-driven resonator; the imbalance is its change, so any stretch's mean is the difference
    of two bounded levels over its length.
    """
    keep = np.exp(-1 / SWING)  # a swing forgets its phase within about one period
    a, b = 2 * keep * np.cos(2 * np.pi / SWING), -(keep**2)
    settle = 8 * SWING
    level, before, levels = 0.0, 0.0, []
    for kick in rng.normal(size=samples + settle + 1).tolist():
        level, before = a * level + b * before + kick, level
        levels.append(level)
    change = np.diff(levels)[settle:]
    # the resonator's own standard deviation, not this stretch's: white noise through (1 - z) / (1 - a z - b z²)
    return change / np.sqrt(2 * (1 - a / (1 - b)) * (1 - b) / ((1 + b) * ((1 - b) ** 2 - a**2)))


def filter_cycle(rng: np.random.Generator, samples: int, slowdown: np.ndarray) -> np.ndarray:
    """(T,) filter cycle of mean 0; `slowdown` (T,) stretches the period of the timer that starts it, 1 is normal.

    A cycle hurries and lingers by JITTER around its timer, and so does not add up: the pace of a short window varies by
    a third, that of 800 samples by a twenty-fifth.
    """
    wander = lag(noise_like(rng, samples, JITTER_MEMORY, np.sqrt(2) * JITTER), JITTER_MEMORY)  # smooth, sd JITTER
    phase = rng.uniform(0, 2 * np.pi) + np.cumsum(2 * np.pi / SWING / slowdown) + wander
    height = np.clip(1 + noise_like(rng, samples, SWING, 0.3), 0.3, None)
    return height * (np.sin(phase) + 0.2 * np.sin(2 * phase)) + noise_like(rng, samples, SWING, 0.25)


def demand(rng: np.random.Generator, times_s: np.ndarray, period_s: float) -> np.ndarray:
    """(T,) share of the nominal production that is asked for: shifts of the day, the weekend, orders, hands."""
    samples = len(times_s)
    hour = 3600 / period_s
    day = np.tanh(2.5 * np.sin(2 * np.pi * (times_s / DAY_S - 0.26)))  # a day shift and a night shift
    weekend = lag((np.floor(times_s / DAY_S + 3) % 7 >= 5).astype(float), 1.5 * hour)  # the epoch is a Thursday
    orders = lag(_orders(rng, samples, 7 * hour), 0.25 * hour)
    hands = noise_like(rng, samples, 3 * hour, 0.035) + noise_like(rng, samples, 0.3 * hour, 0.015)
    return np.clip(0.66 + 0.09 * day - 0.12 * weekend + 0.05 * orders + hands, 0.25, 1.1)


def _orders(rng: np.random.Generator, samples: int, dwell: float) -> np.ndarray:
    """(T,) -1, 0 or 1, held for `dwell` samples on average."""
    turns = rng.random(samples) < 1 / dwell
    return rng.integers(-1, 2, size=int(turns.sum()) + 1)[np.cumsum(turns)].astype(float)


def run_line(
    rng: np.random.Generator,
    times_s: np.ndarray,
    period_s: float,
    ambient_c: np.ndarray,
    asked: np.ndarray,
    leak: np.ndarray,
    slowdown: np.ndarray,
) -> Line:
    """One line under the common weather and demand, each (T,).

    `leak` is in standard deviations of the tank's imbalance, `slowdown` stretches the filter cycle; 0 and 1 are normal.
    """
    samples, minute = len(times_s), 60 / period_s
    throughput = np.clip(asked + noise_like(rng, samples, 60 * minute, 0.02), 0.2, 1.2)
    fouling = filter_cycle(rng, samples, slowdown)
    load = 0.18 + 0.62 * throughput + 0.15 * throughput**3 + 0.02 * fouling
    return Line(
        throughput=throughput,
        imbalance_lpm=SWING_LPM * (swing(rng, samples) + leak),
        fouling=fouling,
        load=load,
        bearing_heat=lag(load, 90 * minute),
        winding_heat=lag(load, 25 * minute),
        water_heat=lag(load, 45 * minute),
        ambient_c=ambient_c,
        wear=noise_like(rng, samples, 360 * minute, 1.0),
    )
