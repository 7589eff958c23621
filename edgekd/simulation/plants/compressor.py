"""A compressed-air station: one screw compressor that loads and unloads by pressure, and a dryer of two towers.

Sampled each 20 s: a load cycle takes about six minutes, and a controller's log that is slower would miss its edges.
"""

from __future__ import annotations

import numpy as np

from edgekd.simulation.drivers import DAY_S, lag, noise_like, weather
from edgekd.simulation.plants.plant import Causes, Plant, Transmitter

LOAD_BAR, UNLOAD_BAR = 6.6, 7.4
OUTPUT_M3_MIN, RECEIVER_M3 = 6.0, 12.0
TOWER_S = 600.0
"""A tower of the dryer works so long, by a timer."""


def run(rng: np.random.Generator, causes: Causes) -> dict[str, np.ndarray]:
    """Two shifts draw air, more on weekdays; the receiver swings between the limits, and motor and oil follow."""
    times, samples, minute = causes.times_s, len(causes.times_s), 60 / causes.period_s
    ambient = weather(rng, times, causes.period_s)
    shift = (times % DAY_S / 3600 > 6) & (times % DAY_S / 3600 < 22) & (np.floor(times / DAY_S + 3) % 7 < 5)
    drawn = 1.6 + 1.5 * lag(shift.astype(float), 20 * minute)
    drawn *= 1 + noise_like(rng, samples, 25 * minute, 0.1) + noise_like(rng, samples, 2 * minute, 0.06)
    drawn = np.clip(drawn, 0.3, 5.4)
    pressure, on = 7.0, True
    held, loaded = np.empty(samples), np.empty(samples)
    for t, out in enumerate((drawn + causes.leak).tolist()):
        on = pressure < UNLOAD_BAR if on else pressure < LOAD_BAR
        pressure += (OUTPUT_M3_MIN * on - out) / RECEIVER_M3 / minute
        held[t], loaded[t] = pressure, on
    turn = np.cumsum(causes.period_s / (TOWER_S + causes.drift_s)) + float(rng.uniform())
    inside = turn % 1
    heat = lag(0.3 + 0.7 * loaded, 12 * minute)
    blocked = noise_like(rng, samples, 600 * minute, 1.0)
    return {
        "receiver_pressure_bar": held,
        "network_pressure_bar": held - 0.02 * (drawn + causes.leak) ** 2,
        "air_flow_m3_min": drawn + causes.leak,
        "motor_power_kw": 11 + loaded * (20 + 1.4 * held),
        "motor_current_a": 24 + loaded * (31 + 2.2 * held),
        "element_temp_c": 42 + 0.8 * ambient + 26 * heat + 5 * lag(loaded, minute),
        "oil_temp_c": 33 + 0.7 * ambient + 24 * lag(heat, 6 * minute),
        "oil_pressure_bar": 1.4 + 0.55 * lag(loaded, minute) * held - 0.01 * 24 * heat,
        "dew_point_c": -42 + 5 * inside**2 + 1.2 * (drawn - 3) + 0.1 * ambient,
        "filter_dp_mbar": 18 + 22 * loaded + 1.5 * blocked,
        "hall_temp_c": 6 + 0.7 * ambient + 4 * heat,
        "loaded": loaded,
        "tower_a_on": (np.floor(turn) % 2).astype(float),
    }


PLANT = Plant(
    period_s=20.0,
    transmitters=(
        Transmitter("receiver_pressure_bar", 0.01, 0.01, shift=0.3),
        Transmitter("network_pressure_bar", 0.012, 0.01, shift=0.3),
        Transmitter("air_flow_m3_min", 0.06, 0.02, shift=0.8),
        Transmitter("motor_power_kw", 0.3, 0.1, shift=5),
        Transmitter("motor_current_a", 0.5, 0.1, shift=8),
        Transmitter("element_temp_c", 0.2, 0.1, shift=6),
        Transmitter("oil_temp_c", 0.2, 0.1, shift=6),
        Transmitter("oil_pressure_bar", 0.03, 0.01, shift=0.5),
        Transmitter("dew_point_c", 0.3, 0.1, shift=5, low=-80),
        Transmitter("filter_dp_mbar", 0.8, 0.5, shift=8),
        Transmitter("hall_temp_c", 0.1, 0.1, shift=4, low=-40),
    ),
    switches=("loaded", "tower_a_on"),
    leak=0.3,
    leak_unit="m3/min of air",
    leaks_from="air_flow_m3_min",
    cycle_s=TOWER_S,
    drift_s=60.0,
    drifts_in="dew_point_c",
    run=run,
)
