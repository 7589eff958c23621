"""A recording to begin with: a seeded plant, its sensors, and labeled faults, without any download."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgekd.data.recording import Recording
from edgekd.runtime.errors import UsageError
from edgekd.simulation.drivers import weather
from edgekd.simulation.faults import (
    CYCLE_DRIFT,
    KINDS,
    LEAK,
    QUICK,
    SHIFT_SD,
    SLOW,
    SLOW_LEAK,
    SLOWDOWN,
    Event,
    schedule,
    slow_profile,
)
from edgekd.simulation.plants import PLANTS
from edgekd.simulation.plants.line import SENSORS, Sensor, demand, run_line
from edgekd.simulation.plants.plant import Causes, Plant

__all__ = ["KINDS", "NAMES", "Event", "Simulation", "kinds_of", "simulate", "without_noise"]

NAMES = ("line", *PLANTS)
"""Kinds of plants."""

START_S = 1_767_571_200.0
"""2026-01-05 00:00 UTC, a Monday."""
MIN_SENSORS, MAX_SENSORS = 3, 10 * len(SENSORS)
MAX_SAMPLES = 5_000_000
"""Nine years and a half of minutes; the plant is held in memory."""
WEATHER, DEMAND, LINE, NOISE, SCHEDULE, SENSOR_FAULT, PLANT = range(7)
"""Streams of random numbers, so that one seed is one plant run, whatever faults or further sensors it has."""


@dataclass(frozen=True)
class Simulation:
    """A recording, and what is wrong in it."""

    recording: Recording
    events: tuple[Event, ...]
    """In the order of their starts; they do not overlap."""


def kinds_of(plant: str) -> tuple[str, ...]:
    """The kinds of faults that this plant can have: one without a cycle has no cycle drift."""
    return KINDS if plant == "line" or PLANTS[plant].drift_s else tuple(k for k in KINDS if k != CYCLE_DRIFT)


def simulate(
    samples: int = 10_080,
    sensors: int | None = None,
    seed: int = 0,
    faults: Sequence[str] | None = None,
    period_s: float | None = None,
    plant: str = "line",
) -> Simulation:
    """Run a plant.

    Args:
        samples: length of the recording; the default is a week of minutes.
        sensors: number of the line's sensors, 12 unless said; above 16 it has more than one line. Other plants have
            their own.
        seed: the same seed with other faults is the same run of the same plant up to the faults themselves.
        faults: kinds of faults, of `kinds_of(plant)`; None for all of them, empty for a run without any.
        period_s: seconds between the line's samples, 60 unless said. Days, weeks and thermal lags keep their length;
            the swings under which the slow faults hide keep their number of samples. Other plants have their own.
        plant: which of NAMES.

    Raises UsageError for an unknown plant or kind, sizes out of range, and too few samples for the faults.
    """
    if plant not in NAMES:
        raise UsageError(f"no plant '{plant}'; there are {', '.join(NAMES)}")
    kinds = kinds_of(plant)
    faults = kinds if faults is None else faults
    unknown = [kind for kind in faults if kind not in kinds]
    if unknown:
        raise UsageError(f"no fault '{unknown[0]}'; there are {', '.join(kinds)}")
    if plant != "line" and (sensors is not None or period_s is not None):
        raise UsageError(f"the {plant} has sensors and a period of its own; leave --sensors and --period-s out")
    sensors, period_s = 12 if sensors is None else sensors, 60.0 if period_s is None else period_s
    if not MIN_SENSORS <= sensors <= MAX_SENSORS:
        raise UsageError(f"{sensors} sensors; the plant has {MIN_SENSORS} to {MAX_SENSORS}")
    if not 1 <= samples <= MAX_SAMPLES:
        raise UsageError(f"{samples} samples; give 1 to {MAX_SAMPLES}")
    if not 0.001 <= period_s <= 86_400:
        raise UsageError(f"a period of {period_s} s; give 0.001 to 86400")
    if seed < 0:
        raise UsageError(f"seed {seed}; give 0 or more")
    if plant == "line":
        names, source = _names(sensors), f"simulated plant, seed {seed}"
        places = {kind: [name for name in names if name.endswith(SLOW[kind])] for kind in SLOW}
        suspects = names
    else:
        own = PLANTS[plant]
        period_s, suspects = own.period_s, [t.name for t in own.transmitters]
        names, source = [*suspects, *own.switches], f"simulated {plant}, seed {seed}"
        places = {SLOW_LEAK: [own.leaks_from], CYCLE_DRIFT: [own.drifts_in]}
    events = _events(seed, samples, suspects, places, list(dict.fromkeys(faults)))
    times_s = START_S + period_s * np.arange(samples)
    values = _readings(plant, seed, times_s, period_s, sensors, events)
    labels = np.zeros(samples, bool)
    for event in events:
        labels[event.start : event.end] = True
    recording = Recording(
        values=np.ascontiguousarray(values, dtype=np.float32),
        sensors=tuple(names),
        period_s=period_s,
        labels=labels,
        times_s=times_s,
        source=source,
    )
    return Simulation(recording, tuple(events))


def without_noise(simulation: Simulation, seed: int, plant: str, events: Sequence[Event]) -> np.ndarray:
    """float64 (T, n) what the transmitters of this run would say with these events, had they no noise and no steps.

    What an event alone changes is the difference between two calls, with it and without it.
    """
    recording = simulation.recording
    assert recording.times_s is not None
    return _readings(plant, seed, recording.times_s, recording.period_s, recording.n_sensors, events, exact=True)


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


def _events(seed: int, samples: int, names: list[str], places: dict[str, list[str]], kinds: list[str]) -> list[Event]:
    """The schedule, with a sensor for each fault; a sensor is used again only after all others were."""
    rng = _stream(seed, SCHEDULE)
    turn: list[str] = []
    events = []
    for kind, start, end in schedule(rng, samples, kinds):
        if kind in SLOW:
            sensor = str(rng.choice(places[kind]))
        else:
            turn = turn or rng.permutation(names).tolist()
            sensor = turn.pop()
        events.append(Event(kind, start, end, (sensor,)))
    return events


def _readings(
    plant: str,
    seed: int,
    times_s: np.ndarray,
    period_s: float,
    sensors: int,
    events: Sequence[Event],
    exact: bool = False,
) -> np.ndarray:
    """float64 (T, n) what the transmitters say, and then the switches; `exact` is without noise and resolution."""
    if plant == "line":
        return _line_readings(seed, times_s, period_s, sensors, events, exact)
    return _plant_readings(seed, times_s, PLANTS[plant], events, exact)


def _line_readings(
    seed: int, times_s: np.ndarray, period_s: float, sensors: int, events: Sequence[Event], exact: bool
) -> np.ndarray:
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
            reading = sensor.read(line)
            if not exact:
                reading = reading + _stream(seed, NOISE, column).normal(0, sensor.noise, samples)
            own = [e for e in events if e.kind in QUICK and e.sensors == (_name(i, sensor.name),)]
            # only temperatures go below zero
            low = -np.inf if sensor.name.endswith("_c") else 0.0
            reading = _distort(seed, reading, own, float(reading.std()))
            values[:, column] = reading if exact else _quantize(reading, low, sensor.step)
    return values


def _plant_readings(seed: int, times_s: np.ndarray, plant: Plant, events: Sequence[Event], exact: bool) -> np.ndarray:
    size = {k: slow_profile(len(times_s), [(e.start, e.end) for e in events if e.kind == k]) for k in SLOW}
    causes = Causes(times_s, plant.period_s, plant.leak * size[SLOW_LEAK], plant.drift_s * size[CYCLE_DRIFT])
    true = plant.run(_stream(seed, PLANT), causes)
    columns = []
    for i, t in enumerate(plant.transmitters):
        reading = true[t.name]
        if not exact:
            reading = reading + _stream(seed, NOISE, i).normal(0, t.noise, len(times_s))
        own = [e for e in events if e.kind in QUICK and e.sensors == (t.name,)]
        reading = _distort(seed, reading, own, t.shift / SHIFT_SD)
        columns.append(reading if exact else _quantize(reading, t.low, t.step))
    return np.column_stack([*columns, *(true[name] for name in plant.switches)])


def _distort(seed: int, reading: np.ndarray, events: list[Event], sd: float) -> np.ndarray:
    faulty = reading.copy()
    for event in events:
        rng = _stream(seed, SENSOR_FAULT, event.start)
        faulty[event.start : event.end] = QUICK[event.kind].distort(rng, reading[event.start : event.end], sd)
    return faulty


def _quantize(reading: np.ndarray, low: float, step: float) -> np.ndarray:
    """Readings on the transmitter's grid, and none below what it can say."""
    return np.round(np.maximum(reading, low) / step) * step
