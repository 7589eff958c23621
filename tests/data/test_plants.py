"""The plants beside the line: repeatable, with faults of the stated sizes that an oracle can see."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bench.detection.plants import SEEN, oracle
from edgekd.runtime.errors import UsageError
from edgekd.simulation.plants import PLANTS
from edgekd.simulation.simulate import NAMES, Event, kinds_of, simulate, without_noise

UNITS = ("kg_min", "kg", "c", "pct", "bar", "kw", "m_s", "rpm", "deg", "mm_s", "w_m2", "ppm", "m3_h", "lpm", "m3_min",
         "a", "mbar", "nm", "kg_m", "t_h", "n")  # fmt: skip


@pytest.mark.parametrize("plant", PLANTS)
def test_plant_is_repeatable_alive_and_says_its_units(plant: str) -> None:
    recording = simulate(4000, seed=3, faults=(), plant=plant).recording
    assert recording.digest() == simulate(4000, seed=3, faults=(), plant=plant).recording.digest()
    assert recording.digest() != simulate(4000, seed=4, faults=(), plant=plant).recording.digest()
    own = PLANTS[plant]
    assert recording.period_s == own.period_s
    assert recording.sensors == (*(t.name for t in own.transmitters), *own.switches)
    assert np.isfinite(recording.values).all() and (recording.values.std(axis=0) > 0).all()
    assert all(t.name.endswith(tuple(f"_{unit}" for unit in UNITS)) for t in own.transmitters)
    assert set(np.unique(recording.values[:, len(own.transmitters) :])) == {0.0, 1.0}


@pytest.mark.parametrize("plant", PLANTS)
def test_quick_faults_change_their_sensor_alone_and_by_the_stated_size(plant: str) -> None:
    healthy = simulate(12_000, seed=5, faults=(), plant=plant).recording.values
    simulation = simulate(12_000, seed=5, faults=kinds_of(plant)[:4], plant=plant)
    changed = simulation.recording.values != healthy
    transmitters = PLANTS[plant].transmitters
    shifts = {t.name: t for t in transmitters}
    for event in simulation.events:
        column = simulation.recording.sensors.index(event.sensors[0])
        during = slice(event.start, event.end)
        transmitter, changed[during, column] = shifts[event.sensors[0]], False
        now = simulation.recording.values[during, column]
        if event.kind == "stuck-sensor":
            assert np.ptp(now) == 0
        elif event.kind == "level-shift":
            moved = np.abs(now - healthy[during, column])[6:]
            down = now.min() <= transmitter.low + transmitter.step  # where it can say no less, it moves by less
            assert moved.max() < 1.2 * transmitter.shift + transmitter.step
            assert down or moved.min() > 0.8 * transmitter.shift - transmitter.step
    assert not changed.any()


@pytest.mark.parametrize("plant", PLANTS)
def test_slow_leak_has_its_size_and_nothing_changes_before_it(plant: str) -> None:
    simulation = simulate(8000, seed=6, faults=("slow-leak",), plant=plant)
    first = simulation.events[0]
    change = without_noise(simulation, 6, plant, [first]) - without_noise(simulation, 6, plant, [])
    assert not change[: first.start].any() and change[first.start : first.end].any()
    own = PLANTS[plant]
    if plant != "batch":  # whose leak adds up within a batch
        column = [t.name for t in own.transmitters].index(own.leaks_from)
        assert abs(np.median(change[(first.start + first.end) // 2 : first.end, column])) == pytest.approx(own.leak)


@pytest.mark.parametrize("plant", NAMES)
def test_oracle_sees_half_the_faults_and_none_that_has_not_begun(plant: str) -> None:
    normal = simulate(20_000, seed=7, faults=(), plant=plant).recording.values
    simulation = simulate(8000, seed=8, plant=plant)
    assert np.mean(np.array(oracle(normal, simulation, 8, plant)) >= SEEN) >= 0.5
    shift = Event("level-shift", 300, 400, (simulation.recording.sensors[0],))
    faint = replace(simulation, events=(replace(shift, end=301),))
    assert oracle(normal, faint, 8, plant)[0] < SEEN, "its shift has not begun"


def test_plants_refuse_what_they_do_not_have() -> None:
    with pytest.raises(UsageError, match="no plant 'mill'; there are line, batch"):
        simulate(plant="mill")
    with pytest.raises(UsageError, match="no fault 'cycle-drift'"):
        simulate(plant="turbine", faults=("cycle-drift",))
    with pytest.raises(UsageError, match="leave --sensors and --period-s out"):
        simulate(plant="batch", sensors=4)
