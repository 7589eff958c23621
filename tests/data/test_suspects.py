"""What is wrong with a sensor is told before anything is trained on it, with the option that mends it; healthy ones are
left in peace."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgekd.data import Recording, load
from edgekd.data.reading import Column, Reading
from edgekd.data.suspects import KINDS, Suspect, all_notes, sentences, suspects
from edgekd.runtime.layout import PLAIN
from edgekd.simulation.simulate import simulate

SAMPLES, RNG = 3000, np.random.default_rng(0)
STEPS = np.arange(SAMPLES)
FLOW = 12 + np.sin(STEPS / 200) + RNG.normal(0, 0.2, SAMPLES).round(2)


def reading(recording: Recording) -> Reading:
    columns = tuple(
        Column(name, largest=float(np.nanmax(np.abs(x)))) for name, x in zip(recording.sensors, recording.values.T)
    )
    return Reading(
        recording.source, PLAIN, columns, recording.values, recording.period_s, recording.times_s,
        recording.times_s is not None, None, recording.starts,
    )  # fmt: skip


def told(x: np.ndarray, period_s: float = 60.0, **facts: float) -> list[Suspect]:
    """What is said of one sensor, float64 (T,), that stands beside a healthy one."""
    steps = np.abs(np.diff(x))
    column = Column("x", largest=float(np.nanmax(np.abs(x))), least_step=float(min(steps[steps > 0], default=0)))
    both = np.stack((np.resize(FLOW, len(x)), x), axis=1).astype(np.float32)
    return suspects(
        Reading("made.csv", PLAIN, (Column("flow"), replace(column, **facts)), both, period_s)
    )  # fmt: skip


def put(values: float | np.ndarray, *places: int | slice) -> np.ndarray:
    x = FLOW.copy()
    for place in places:
        x[place] = values
    return x


WRONG: dict[str, tuple[np.ndarray, str, tuple[str, str]]] = {
    "total": (np.cumsum(np.abs(FLOW)), "grows", ("--difference", "x")),
    "total that is reset": (np.cumsum(np.abs(FLOW)) % 20_000, "grows", ("--difference", "x")),
    "energy beyond float32": (123456789.25 + 0.25 * STEPS, "float32", ("--difference", "x")),
    "constant to float32": (50_000_000 + 0.1 * (FLOW - 12), "float32", ("--difference", "x")),
    "record number": (STEPS + 1.0, "counter", ("--ignore", "x")),
    "seconds since start": (STEPS * 60.0, "counter", ("--ignore", "x")),
    "heartbeat": (STEPS % 256.0, "counter", ("--ignore", "x")),
    "minute of the hour": (STEPS // 4 % 60.0, "counter", ("--ignore", "x")),
    "-9999": (put(-9999, *range(50, 3000, 97)), "sentinel", ("--missing", "-9999")),
    "999.9 for long": (put(999.9, slice(400, 900)), "sentinel", ("--missing", "999.9")),
    "unsigned full scale": (put(65535, 3, 700, 701), "sentinel", ("--missing", "65535")),
    "a number of its own": (put(-77.5, 30, 500, 2000), "sentinel", ("--missing", "-77.5")),
    "stuck": (put(FLOW[600], slice(600, 750)), "stuck", ("", "")),
    "spikes": (put(np.array(90.0), 5, 2100) + (STEPS == 5), "spike", ("", "")),
    "another level": (FLOW + 9 * (STEPS > 1700), "level", ("", "")),
    "mostly empty": (np.where(RNG.random(SAMPLES) < 0.7, np.nan, FLOW), "empty", ("--ignore", "x")),
    "begins late": (put(np.nan, slice(0, 800)), "late", ("--ignore", "x")),
    "constant": (np.full(SAMPLES, 4.2), "constant", ("", "")),
    "never on": (np.zeros(SAMPLES), "switch", ("", "")),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said_once_with_what_mends_it(name: str) -> None:
    x, kind, option = WRONG[name]
    found = told(x)
    assert [(s.sensor, s.kind, s.option) for s in found] == [("x", kind, option)]
    assert found[0].words.startswith("x: ") and option[0] in found[0].words and option[1] in found[0].words


def test_the_places_are_marked() -> None:
    assert told(WRONG["-9999"][0])[0].ranges == tuple((i, i + 1) for i in range(50, 3000, 97))
    assert told(WRONG["stuck"][0])[0].ranges == ((600, 750),)
    assert told(WRONG["another level"][0])[0].ranges == ((1701, 1702),)
    assert told(WRONG["spikes"][0])[0].ranges == ((5, 6), (2100, 2101))


HEALTHY: dict[str, Callable[[], np.ndarray]] = {
    "a switch": lambda: (STEPS // 300 % 2).astype(float),
    "a set point": lambda: np.repeat([20.0, 22.0, 21.0], 1000),
    "off at night": lambda: np.where(STEPS // 750 % 2, 0.0, FLOW),
    "coarse and slow": lambda: (20 + 3 * np.sin(STEPS / 300)).round(1),
    "filled and emptied": lambda: STEPS % 150 * 1.5 + STEPS % 7 / 7,
    "steps of a program": lambda: STEPS // 20 % 8.0,
    "a warm-up": lambda: 20 + 60 * (1 - np.exp(-STEPS / 400)) + RNG.normal(0, 0.2, SAMPLES),
    "many digits": lambda: FLOW + RNG.normal(0, 1e-9, SAMPLES),
    "bursts": lambda: np.where(RNG.random(SAMPLES) < 0.03, RNG.exponential(50, SAMPLES), 0.0),
    "a random walk": lambda: np.cumsum(RNG.normal(0, 1, SAMPLES)),
    "heavy tails": lambda: RNG.standard_t(3, SAMPLES),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_sensors_are_left_in_peace(name: str) -> None:
    assert told(HEALTHY[name]()) == []


@pytest.mark.parametrize(("seed", "period_s"), [(0, 1.0), (1, 10.0), (2, 60.0), (3, 600.0)])
def test_a_healthy_plant_is_left_in_peace(seed: int, period_s: float) -> None:
    assert suspects(reading(simulate(10_000, 16, seed, (), period_s).recording)) == []


@pytest.mark.skipif("EDGEKD_DATA" not in os.environ, reason="EDGEKD_DATA names no folder of data sets")
def test_the_public_pump_testbed_is_left_in_peace() -> None:
    archive = Path(os.environ["EDGEKD_DATA"]) / "skab" / "SKAB.npz"
    assert suspects(reading(load(f"{archive}#anomaly-free"))) == []


def test_steps_that_were_taken_grow_no_more() -> None:
    total = np.abs(FLOW)
    made = Reading(
        "made.csv",
        replace(PLAIN, difference=("x:1000",)),
        (Column("x", largest=1e9),),
        total[:, None].astype(np.float32),
        60.0,
    )
    assert suspects(made) == []


def test_the_words_about_many_sensors_stay_few() -> None:
    names = [f"line{i}_a_rather_long_name" for i in range(200)]
    found = [Suspect(name, kind, "", ("--ignore", name)) for kind in KINDS for name in names]
    assert all("196 more" in line for line in sentences(found))
    notes = all_notes(["a note of the reader"] * 20, found)
    assert len(" ".join(notes)) <= 1500 and "`edgekd look`" in notes[-1]
