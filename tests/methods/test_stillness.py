"""For how long a sensor may say the same: learned from the part that trains, for sensors that usually move."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgekd.blocks.stillness import LEAST_SAMPLES, MARGIN, longest_still_s
from edgekd.data.recording import Recording

LENGTH, PERIOD_S = 4000, 10.0


def recording(*columns: np.ndarray, starts: tuple[int, ...] = (0,)) -> Recording:
    values = np.stack(columns, axis=1).astype(np.float32)
    names = tuple(f"s{i}" for i in range(len(columns)))
    return Recording(values, names, PERIOD_S, starts=starts, entities=tuple(map(str, starts)))


def wave(step: float = 0.0) -> np.ndarray:
    """Some 40 waves of noise, in steps of a converter where it has any."""
    x = 10 * np.sin(np.arange(LENGTH) / 16) + np.random.default_rng(1).normal(0, 0.3, LENGTH)
    return np.round(x / step) * step if step else x


def test_the_bound_is_a_margin_over_the_longest_run_of_a_quantized_sensor() -> None:
    coarse, fine = wave(1.0), wave()
    coarse[1000:1013] = 3.0  # of one run of 12 that repeat the value before
    coarse[999] = coarse[1013] = 8.0
    found = longest_still_s(recording(coarse, fine))
    assert found.tolist() == [MARGIN * 12 * PERIOD_S, LEAST_SAMPLES * PERIOD_S]


def test_what_may_stand_still_for_ever_is_not_watched() -> None:
    switch, constant = np.sign(wave()), np.full(LENGTH, 7.0)
    setting = np.repeat(np.random.default_rng(1).integers(20, 90, LENGTH // 200), 200)
    idle = np.maximum(wave(), 0.0)
    assert not longest_still_s(recording(switch, constant, setting, idle)).any()
    images = replace(recording(wave(), wave()), frame=40)
    assert not longest_still_s(images).any()


def test_only_the_part_that_trains_counts_and_no_run_crosses_an_entity() -> None:
    x = wave()
    x[LENGTH // 2 - 15 : LENGTH // 2] = x[LENGTH // 2 - 1]  # held, where nothing trains
    x[LENGTH // 2 : LENGTH // 2 + 9] = x[LENGTH // 2 - 1]
    cut = recording(x, starts=(0, LENGTH // 2))
    assert longest_still_s(cut).tolist() == [max(LEAST_SAMPLES, MARGIN * 8) * PERIOD_S]
