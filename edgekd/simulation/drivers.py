"""What drives a simulated plant: noise with a memory, lags, and the weather."""

from __future__ import annotations

import numpy as np

DAY_S = 86_400.0


def noise_like(rng: np.random.Generator, samples: int, lag_samples: float, sd: float) -> np.ndarray:
    """(T,) Gaussian noise with an exponential memory of `lag_samples` (an Ornstein-Uhlenbeck process)."""
    keep = float(np.exp(-1 / max(lag_samples, 1e-6)))
    kicks = rng.normal(0, sd * np.sqrt(1 - keep * keep), samples)
    kicks[0] = rng.normal(0, sd)
    return _recur(kicks, keep)


def lag(driver: np.ndarray, lag_samples: float) -> np.ndarray:
    """(T,) the driver behind a first-order lag, at rest in the beginning."""
    keep = float(np.exp(-1 / max(lag_samples, 1e-6)))
    return _recur((1 - keep) * (driver - driver[0]), keep) + driver[0]


def _recur(kicks: np.ndarray, keep: float) -> np.ndarray:
    """y[t] = keep · y[t-1] + kicks[t]"""
    out, last = [], 0.0
    for kick in kicks.tolist():
        last = keep * last + kick
        out.append(last)
    return np.array(out)


def weather(rng: np.random.Generator, times_s: np.ndarray, period_s: float) -> np.ndarray:
    """(T,) ambient temperature in °C: a day's course, fronts that pass within a day, clouds."""
    samples = len(times_s)
    day = -np.cos(2 * np.pi * (times_s / DAY_S - 0.13))  # coldest at three, warmest at fifteen o'clock
    fronts = noise_like(rng, samples, 0.5 * DAY_S / period_s, 1.5)
    return 17 + 4.5 * day + fronts + noise_like(rng, samples, 1800 / period_s, 0.4)
