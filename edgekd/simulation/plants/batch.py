"""A batch reactor: fill, heat, react, cool, drain, about two hours in all.

Sampled each 30 s, as a historian keeps a jacketed vessel whose temperatures take minutes to move.
"""

from __future__ import annotations

import numpy as np

from edgekd.simulation.drivers import noise_like, weather
from edgekd.simulation.plants.plant import Causes, Plant, Transmitter

FILL_S, HEAT_S, REACT_S, COOL_S, DRAIN_S = 900.0, 1500.0, 2700.0, 1500.0, 600.0
CHARGE_KG = 2000.0


def run(rng: np.random.Generator, causes: Causes) -> dict[str, np.ndarray]:
    """A recipe, stage by stage; the reaction of a batch takes 3 % more or less, its charge weighs 1 % more or less."""
    samples, step = len(causes.times_s), causes.period_s
    ambient = weather(rng, causes.times_s, step)
    habits = rng.normal(size=(int(samples * step / 5000) + 2, 2)).clip(-2.5, 2.5)
    supply = noise_like(rng, samples, 3600 / step, 1.0)
    elapsed, batch, mass, made = float(rng.uniform(0, 7000)), 0, 0.0, 0.0
    reactor, jacket = float(ambient[0]), float(ambient[0])
    rows = np.empty((samples, 10))
    for t, (air, leak, late, water) in enumerate(
        zip(ambient.tolist(), causes.leak.tolist(), causes.drift_s.tolist(), supply.tolist())
    ):
        pace, charge = habits[batch].tolist()
        ends = np.cumsum((FILL_S, HEAT_S, REACT_S * (1 + 0.03 * pace) + late, COOL_S, DRAIN_S))
        stage = int(np.searchsorted(ends, elapsed, side="right"))
        if stage > 4:
            stage, elapsed, made, batch = 0, 0.0, 0.0, min(batch + 1, len(habits) - 1)
        feed = CHARGE_KG * (1 + 0.01 * charge) / FILL_S * (1 + 0.01 * water) if stage == 0 else 0.0
        mass = max(mass + feed * step - leak * step / 3600 * (mass > 0) - (4.0 * step if stage == 4 else 0.0), 0.0)
        rate = (1 - made) / 1200 if stage == 2 else 0.0
        made += rate * step
        goal = (25.0, 80.0, 80.0, 35.0, 30.0)[stage]
        steam = float(np.clip(4.0 * (goal - reactor), 0, 100)) if stage in (1, 2) else 0.0
        cooling = float(np.clip(6.0 * (reactor - goal), 0, 100)) if stage in (2, 3) else 0.0
        aim = air + 1.0 * steam * (1 + 0.01 * water) - 0.5 * cooling * (jacket > 12)
        jacket += (aim - jacket) * step / 240
        full = max(mass / CHARGE_KG, 0.1)
        fresh = (18 - reactor) / 900 if feed else 0.0
        reactor += ((jacket - reactor) / (700 * full) + 9.0 * rate + fresh) * step
        stirs = float(mass > 300 and stage < 4)
        thick = 4 + 30 * made + 0.15 * (80 - reactor)
        pressure = 1.02 + 0.012 * max(reactor - 25, 0) + 60.0 * rate
        power = stirs * (2.2 + 3.5 * full + 0.05 * thick)
        rows[t] = feed * 60, mass, reactor, jacket, steam, cooling, pressure, power, stirs, float(stage == 4)
        elapsed += step
    names = (
        "feed_flow_kg_min", "vessel_mass_kg", "reactor_temp_c", "jacket_temp_c", "steam_valve_pct",
        "cooling_valve_pct", "vessel_pressure_bar", "agitator_power_kw", "agitator_on", "drain_valve_open",
    )  # fmt: skip
    values = dict(zip(names, rows.T))
    values["feed_pump_on"] = (values["feed_flow_kg_min"] > 0).astype(float)
    values["hall_temp_c"] = 8 + 0.6 * ambient
    return values


PLANT = Plant(
    period_s=30.0,
    transmitters=(
        Transmitter("feed_flow_kg_min", 0.6, 0.1, shift=12),
        Transmitter("vessel_mass_kg", 3.0, 1.0, shift=90),
        Transmitter("reactor_temp_c", 0.15, 0.1, shift=6),
        Transmitter("jacket_temp_c", 0.3, 0.1, shift=9),
        Transmitter("steam_valve_pct", 0.4, 0.1, shift=12),
        Transmitter("cooling_valve_pct", 0.4, 0.1, shift=12),
        Transmitter("vessel_pressure_bar", 0.006, 0.005, shift=0.15),
        Transmitter("agitator_power_kw", 0.08, 0.02, shift=0.8),
        Transmitter("hall_temp_c", 0.1, 0.1, shift=4, low=-40),
    ),
    switches=("feed_pump_on", "agitator_on", "drain_valve_open"),
    leak=60.0,
    leak_unit="kg/h through the drain valve",
    leaks_from="vessel_mass_kg",
    cycle_s=FILL_S + HEAT_S + REACT_S + COOL_S + DRAIN_S,
    drift_s=600.0,
    drifts_in="reactor_temp_c",
    run=run,
)
