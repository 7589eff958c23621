"""An office building: weather, people, ventilation by a time switch, heating by the outdoor temperature.

Sampled each 5 minutes, the usual trend of a building's control system; rooms take hours to follow.
"""

from __future__ import annotations

import numpy as np

from edgekd.simulation.drivers import DAY_S, lag, noise_like, weather
from edgekd.simulation.plants.plant import Causes, Plant, Transmitter


def run(rng: np.random.Generator, causes: Causes) -> dict[str, np.ndarray]:
    """Weekdays and weekends; the ventilation's time switch runs from 6:30 to 19:00, late by the drift."""
    times, samples, hour = causes.times_s, len(causes.times_s), 3600 / causes.period_s
    outdoor = weather(rng, times, causes.period_s) - 11
    clouds = np.clip(0.6 + noise_like(rng, samples, 5 * hour, 0.25), 0.1, 1)
    sun = 550 * clouds * np.clip(np.sin(2 * np.pi * (times / DAY_S - 0.25)), 0, None)
    work = (np.floor(times / DAY_S + 3) % 7 < 5).astype(float)  # the epoch is a Thursday
    clock = times % DAY_S / 3600
    crowd = np.clip(1 + noise_like(rng, samples, 8 * hour, 0.12), 0.5, 1.5)
    people = crowd * lag(work * ((clock > 8) & (clock < 17.5)), 0.7 * hour)
    switched = (times - causes.drift_s) % DAY_S / 3600
    fan = work * ((switched > 6.5) & (switched < 19))
    flow = lag(fan, 0.15 * hour)
    taps = np.clip(noise_like(rng, samples, 0.3 * hour, 0.35) + 1, 0.2, None)
    indoors, air = 20.5, 450.0
    rooms, carbon, heating = (np.empty(samples) for _ in range(3))
    for t in range(samples):
        asked = (21.5 if fan[t] else 18.5) - indoors
        heating[t] = np.clip(25 * asked + 1.6 * (16 - outdoor[t]), 0, 120)
        gain = heating[t] + 0.03 * sun[t] + 12 * people[t] - (2.4 + 0.8 * flow[t]) * (indoors - outdoor[t])
        indoors += gain / (60 * hour)
        air += (520 * people[t] - (air - 420) * (0.12 + 0.75 * flow[t])) / hour
        rooms[t], carbon[t] = indoors, air
    return {
        "outdoor_temp_c": outdoor,
        "solar_w_m2": sun,
        "room_temp_c": rooms,
        "co2_ppm": carbon,
        "supply_air_temp_c": np.where(fan > 0, 19 + 0.06 * outdoor, rooms - 1),
        "supply_flow_m3_h": 9000 * flow,
        "heating_power_kw": lag(heating, 0.3 * hour),
        "heating_flow_temp_c": 28 + 0.3 * lag(heating, 0.5 * hour),
        "electric_power_kw": 9 + 14 * flow + 31 * people,
        "water_flow_lpm": 0.8 * taps + 14 * people * taps + causes.leak,
        "ventilation_on": fan,
    }


PLANT = Plant(
    period_s=300.0,
    transmitters=(
        Transmitter("outdoor_temp_c", 0.15, 0.1, shift=4, low=-40),
        Transmitter("solar_w_m2", 4, 1, shift=120),
        Transmitter("room_temp_c", 0.06, 0.05, shift=2),
        Transmitter("co2_ppm", 8, 1, shift=150),
        Transmitter("supply_air_temp_c", 0.12, 0.1, shift=3),
        Transmitter("supply_flow_m3_h", 90, 10, shift=1500),
        Transmitter("heating_power_kw", 0.8, 0.1, shift=12),
        Transmitter("heating_flow_temp_c", 0.3, 0.1, shift=6),
        Transmitter("electric_power_kw", 0.6, 0.1, shift=9),
        Transmitter("water_flow_lpm", 0.15, 0.1, shift=5),
    ),
    switches=("ventilation_on",),
    leak=0.6,
    leak_unit="lpm of water",
    leaks_from="water_flow_lpm",
    cycle_s=DAY_S,
    drift_s=2700.0,
    drifts_in="supply_flow_m3_h",
    run=run,
)
