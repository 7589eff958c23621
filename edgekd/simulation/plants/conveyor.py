"""A belt conveyor: bulk from upstream, a drive, a pneumatic take-up, and the splice that passes once a turn.

Sampled each 5 s, as a controller is polled over its field bus: a turn of the belt takes one minute.
"""

from __future__ import annotations

import numpy as np

from edgekd.simulation.drivers import lag, noise_like, weather
from edgekd.simulation.plants.plant import Causes, Plant, Transmitter

TURN_S = 60.0
BREAK_EVERY_S, BREAK_S = 7200.0, 600.0
"""The belt stands for a break each two hours."""


def run(rng: np.random.Generator, causes: Causes) -> dict[str, np.ndarray]:
    """Bulk comes in waves, at three speeds; the motor pulls it, friction warms, the splice tugs at the take-up."""
    times, samples, minute = causes.times_s, len(causes.times_s), 60 / causes.period_s
    ambient = 6 + 0.6 * weather(rng, times, causes.period_s)
    runs = (times % BREAK_EVERY_S >= BREAK_S).astype(float)
    changes = rng.random(samples) < 1 / (25 * minute)
    gear = rng.choice((0.8, 0.9, 1.0), int(changes.sum()) + 1)[np.cumsum(changes)]
    speed = lag(runs * gear, 2.0)
    turn = np.cumsum(speed * causes.period_s / (TURN_S + causes.drift_s)) + float(rng.uniform())
    splice = speed * np.exp(-0.5 * ((turn % 1 - 0.5) / 0.08) ** 2)
    waves = noise_like(rng, samples, 4 * minute, 0.16) + noise_like(rng, samples, 0.4 * minute, 0.06)
    bulk = np.clip(0.7 + waves, 0.1, 1.2)
    heaped = lag(bulk * (runs > 0), 0.4 * minute)
    torque = speed * (70 + 90 * heaped) + 8 * splice + 25 * np.clip(np.diff(speed, prepend=speed[0]), 0, None)
    work = torque * speed / 160
    air = 5.2 + 0.05 * noise_like(rng, samples, 40 * minute, 1.0) - causes.leak
    return {
        "belt_speed_m_s": 1.8 * speed,
        "motor_speed_rpm": 1460 * speed,
        "motor_torque_nm": torque,
        "motor_current_a": runs * 4 + 0.11 * torque,
        "belt_load_kg_m": 45 * heaped,
        "throughput_t_h": 0.001 * 3600 * 45 * heaped * 1.8 * speed,
        "takeup_pressure_bar": air,
        "belt_tension_n": 400 * air + 900 * heaped * speed + 160 * splice,
        "motor_temp_c": ambient + 14 + 38 * lag(work, 20 * minute),
        "gearbox_temp_c": ambient + 9 + 26 * lag(work, 35 * minute),
        "pulley_vibration_mm_s": 0.2 + 1.4 * speed**2 + 0.5 * splice + 0.2 * heaped * speed,
        "hall_temp_c": ambient,
        "belt_on": runs,
    }


PLANT = Plant(
    period_s=5.0,
    transmitters=(
        Transmitter("belt_speed_m_s", 0.008, 0.005, shift=0.25),
        Transmitter("motor_speed_rpm", 4, 1, shift=200),
        Transmitter("motor_torque_nm", 2, 0.5, shift=25),
        Transmitter("motor_current_a", 0.25, 0.1, shift=3),
        Transmitter("belt_load_kg_m", 0.6, 0.1, shift=8),
        Transmitter("throughput_t_h", 3, 0.5, shift=50),
        Transmitter("takeup_pressure_bar", 0.01, 0.01, shift=0.4),
        Transmitter("belt_tension_n", 15, 5, shift=300),
        Transmitter("motor_temp_c", 0.2, 0.1, shift=6),
        Transmitter("gearbox_temp_c", 0.2, 0.1, shift=6),
        Transmitter("pulley_vibration_mm_s", 0.06, 0.01, shift=0.6),
        Transmitter("hall_temp_c", 0.1, 0.1, shift=4, low=-40),
    ),
    switches=("belt_on",),
    leak=0.1,
    leak_unit="bar of the take-up's air",
    leaks_from="takeup_pressure_bar",
    cycle_s=TURN_S,
    drift_s=4.0,
    drifts_in="belt_tension_n",
    run=run,
)
