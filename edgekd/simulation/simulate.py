"""A recording to begin with: a seeded plant, its sensors, and labeled faults, without any download."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgekd.data.recording import Recording
from edgekd.runtime.errors import UsageError
from edgekd.simulation.faults import (
    CYCLE_DRIFT,
    KINDS,
    LEAK,
    QUICK,
    SLOW,
    SLOW_LEAK,
    SLOWDOWN,
    Event,
    schedule,
    slow_profile,
)
from edgekd.simulation.plant import SENSORS, Sensor, demand, run_line, weather

__all__ = ["KINDS", "Event", "Simulation", "simulate"]

START_S = 1_767_571_200.0
"""2026-01-05 00:00 UTC, a Monday."""
MIN_SENSORS, MAX_SENSORS = 3, 10 * len(SENSORS)
MAX_SAMPLES = 5_000_000
"""Nine years and a half of minutes; the plant is held in memory."""
WEATHER, DEMAND, LINE, NOISE, SCHEDULE, SENSOR_FAULT = range(6)
"""Streams of random numbers, so that one seed is one plant run, whatever faults or further sensors it has."""


@dataclass(frozen=True)
class Simulation:
    """A recording, and what is wrong in it."""

    recording: Recording
    events: tuple[Event, ...]
    """In the order of their starts; they do not overlap."""


def simulate(
    samples: int = 10_080,
    sensors: int = 12,
    seed: int = 0,
    faults: Sequence[str] = KINDS,
    period_s: float = 60.0,
) -> Simulation:
    """Run the plant.

    Args:
        samples: length of the recording; the default is a week of minutes.
        sensors: number of sensors; above 16 the plant has more than one line.
        seed: the same seed with other faults is the same run of the same plant up to the faults themselves.
        faults: kinds of faults, of KINDS; empty for a run without any.
        period_s: seconds between samples. Days, weeks and thermal lags keep their length; the swings under which the
            slow faults hide keep their number of samples.

    Raises UsageError for sizes out of range, an unknown kind, and too few samples for the faults.
    """
    unknown = [kind for kind in faults if kind not in KINDS]
    if unknown:
        raise UsageError(f"no fault '{unknown[0]}'; there are {', '.join(KINDS)}")
    if not MIN_SENSORS <= sensors <= MAX_SENSORS:
        raise UsageError(f"{sensors} sensors; the plant has {MIN_SENSORS} to {MAX_SENSORS}")
    if not 1 <= samples <= MAX_SAMPLES:
        raise UsageError(f"{samples} samples; give 1 to {MAX_SAMPLES}")
    if not 0.001 <= period_s <= 86_400:
        raise UsageError(f"a period of {period_s} s; give 0.001 to 86400")
    if seed < 0:
        raise UsageError(f"seed {seed}; give 0 or more")
    events = _events(seed, samples, sensors, list(dict.fromkeys(faults)))
    times_s = START_S + period_s * np.arange(samples)
    values = _readings(seed, times_s, period_s, sensors, events)
    labels = np.zeros(samples, bool)
    for event in events:
        labels[event.start : event.end] = True
    recording = Recording(
        values=np.ascontiguousarray(values, dtype=np.float32),
        sensors=tuple(_names(sensors)),
        period_s=period_s,
        labels=labels,
        times_s=times_s,
        source=f"simulated plant, seed {seed}",
    )
    return Simulation(recording, tuple(events))


def _stream(seed: int, *path: int) -> np.random.Generator:
    return np.random.default_rng([seed, *path])


def _of_line(sensors: int, line: int) -> tuple[Sensor, ...]:
    return SENSORS[: max(0, min(len(SENSORS), sensors - line * len(SENSORS)))]


def _lines(sensors: int) -> int:
    return -(-sensors // len(SENSORS))


def _name(line: int, sensor: str) -> str:
    return sensor if line == 0 else f"line{line + 1}_{sensor}"


def _names(sensors: int) -> list[str]:
    return [_name(line, s.name) for line in range(_lines(sensors)) for s in _of_line(sensors, line)]


def _events(seed: int, samples: int, sensors: int, kinds: list[str]) -> list[Event]:
    """The schedule, with a sensor for each fault; a sensor is used again only after all others were."""
    rng = _stream(seed, SCHEDULE)
    names = _names(sensors)
    turn: list[str] = []
    events = []
    for kind, start, end in schedule(rng, samples, kinds):
        if kind in SLOW:
            sensor = str(rng.choice([name for name in names if name.endswith(SLOW[kind])]))
        else:
            turn = turn or rng.permutation(names).tolist()
            sensor = turn.pop()
        events.append(Event(kind, start, end, (sensor,)))
    return events


def _readings(seed: int, times_s: np.ndarray, period_s: float, sensors: int, events: list[Event]) -> np.ndarray:
    """float64 (T, n) what the transmitters say."""
    samples = len(times_s)
    ambient_c = weather(_stream(seed, WEATHER), times_s, period_s)
    asked = demand(_stream(seed, DEMAND), times_s, period_s)
    values = np.empty((samples, sensors))
    for i in range(_lines(sensors)):
        sizes = {
            kind: slow_profile(
                samples, [(e.start, e.end) for e in events if e.sensors == (_name(i, SLOW[kind]),) and e.kind == kind]
            )
            for kind in SLOW
        }
        leak, slowdown = LEAK * sizes[SLOW_LEAK], 1 + (SLOWDOWN - 1) * sizes[CYCLE_DRIFT]
        line = run_line(_stream(seed, LINE, i), times_s, period_s, ambient_c, asked, leak, slowdown)
        for j, sensor in enumerate(_of_line(sensors, i)):
            column = i * len(SENSORS) + j
            reading = sensor.read(line) + _stream(seed, NOISE, column).normal(0, sensor.noise, samples)
            own = [e for e in events if e.kind in QUICK and e.sensors == (_name(i, sensor.name),)]
            values[:, column] = _quantize(_distort(seed, reading, own), sensor)
    return values


def _distort(seed: int, reading: np.ndarray, events: list[Event]) -> np.ndarray:
    sd = float(reading.std())
    faulty = reading.copy()
    for event in events:
        rng = _stream(seed, SENSOR_FAULT, event.start)
        faulty[event.start : event.end] = QUICK[event.kind].distort(rng, reading[event.start : event.end], sd)
    return faulty


def _quantize(reading: np.ndarray, sensor: Sensor) -> np.ndarray:
    """Readings on the transmitter's grid; only temperatures go below zero."""
    if not sensor.name.endswith("_c"):
        reading = np.maximum(reading, 0)
    return np.round(reading / sensor.step) * sensor.step
