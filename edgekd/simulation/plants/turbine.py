"""A wind turbine: wind, rotor, pitch, generator, gearbox and their heat. It has no cycle.

Sampled each 10 minutes, the means that turbines' control systems log.
"""

from __future__ import annotations

import numpy as np

from edgekd.simulation.drivers import DAY_S, lag, noise_like, weather
from edgekd.simulation.plants.plant import Causes, Plant, Transmitter

CUT_IN, RATED, RATED_KW = 3.5, 11.5, 2000.0
"""Wind speeds in m/s, and the power between the second and the storm."""


def run(rng: np.random.Generator, causes: Causes) -> dict[str, np.ndarray]:
    """Fronts of two days and gusts of half an hour under a power curve; oil loses pressure as it warms and leaks."""
    samples, hour = len(causes.times_s), 3600 / causes.period_s
    ambient = weather(rng, causes.times_s, causes.period_s) - 6
    day = np.sin(2 * np.pi * (causes.times_s / DAY_S - 0.4))
    front, gust = noise_like(rng, samples, 24 * hour, 0.42), noise_like(rng, samples, 0.6 * hour, 0.09)
    wind = 7.6 * np.exp(front + gust + 0.06 * day - 0.09)
    runs = np.empty(samples)
    on = True
    for t, speed in enumerate(wind.tolist()):
        on = speed > (CUT_IN - 0.5 if on else CUT_IN + 0.3) and speed < 25
        runs[t] = on
    yaw = noise_like(rng, samples, 2 * hour, 3.0)
    used = np.clip(wind * np.cos(np.radians(yaw)), 0, None)
    share = runs * np.clip((used / RATED) ** 3, 0.004, 1)
    speed = runs * np.clip(7 + 9.6 * (used - CUT_IN) / (9.5 - CUT_IN), 7, 16.6)
    heat, slow_heat = lag(share, 0.8 * hour), lag(share, 2 * hour)
    oil = 22 + 0.3 * ambient + 34 * slow_heat
    return {
        "wind_speed_m_s": wind,
        "rotor_speed_rpm": speed,
        "generator_speed_rpm": 100.5 * speed,
        "active_power_kw": RATED_KW * share,
        "pitch_deg": np.where(runs > 0, np.clip(3.6 * np.clip(used - RATED, 0, None) ** 0.8, 0, 35), 85),
        "yaw_error_deg": yaw,
        "generator_temp_c": 28 + 0.6 * ambient + 62 * heat,
        "gearbox_oil_temp_c": oil,
        "main_bearing_temp_c": 18 + 0.6 * ambient + 14 * slow_heat,
        "gearbox_oil_pressure_bar": 1.2 + 0.13 * speed - 0.012 * (oil - 40) - causes.leak,
        "tower_vibration_mm_s": 0.4 + 0.25 * wind + 0.9 * share,
        "ambient_temp_c": ambient,
        "grid_connected": runs,
    }


PLANT = Plant(
    period_s=600.0,
    transmitters=(
        Transmitter("wind_speed_m_s", 0.15, 0.1, shift=2.5),
        Transmitter("rotor_speed_rpm", 0.08, 0.1, shift=1.5),
        Transmitter("generator_speed_rpm", 6, 1, shift=150),
        Transmitter("active_power_kw", 12, 1, shift=250, low=-50),
        Transmitter("pitch_deg", 0.2, 0.1, shift=5, low=-5),
        Transmitter("yaw_error_deg", 1.0, 0.1, shift=9, low=-180),
        Transmitter("generator_temp_c", 0.4, 0.1, shift=10, low=-40),
        Transmitter("gearbox_oil_temp_c", 0.3, 0.1, shift=7, low=-40),
        Transmitter("main_bearing_temp_c", 0.2, 0.1, shift=5, low=-40),
        Transmitter("gearbox_oil_pressure_bar", 0.03, 0.01, shift=0.4),
        Transmitter("tower_vibration_mm_s", 0.15, 0.01, shift=0.9),
        Transmitter("ambient_temp_c", 0.2, 0.1, shift=6, low=-40),
    ),
    switches=("grid_connected",),
    leak=0.12,
    leak_unit="bar of oil pressure",
    leaks_from="gearbox_oil_pressure_bar",
    cycle_s=0.0,
    drift_s=0.0,
    drifts_in="",
    run=run,
)
