"""The threshold of an int8 file means what it meant in float."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekd.checkpoint import Checkpoint
from edgekd.export import threshold
from edgekd.runtime.guard import admit

SEEDS = st.integers(0, 2**32 - 1)
QUANTILES = st.sampled_from([0.5, 0.95, 1.5])  # of the scores; 1.5: that of the largest


def normal_scores(seed: int, quantile: float) -> tuple[np.ndarray, float]:
    """Scores as normal data give them, many low and few high, and a threshold."""
    rng = np.random.default_rng(seed)
    scores = rng.lognormal(sigma=2.0, size=rng.integers(60, 2000))
    return scores, float(np.quantile(scores, quantile) if quantile <= 1 else quantile * scores.max())


@given(SEEDS, QUANTILES, st.floats(0.2, 5.0))
def test_a_threshold_follows_the_scores(seed: int, quantile: float, by: float) -> None:
    expected, value = normal_scores(seed, quantile)
    assert threshold.same_meaning(expected, expected, value) == value
    assert threshold.same_meaning(expected, by * expected, value) == pytest.approx(by * value)
    below, level = np.log(expected) - 50.0, np.log(value) - 50.0  # no ratio
    assert threshold.same_meaning(below, below + by, level) == pytest.approx(level + by)


@given(SEEDS, QUANTILES, st.floats(0.0, 1e6))
def test_no_few_steps_decide_a_threshold(seed: int, quantile: float, wild: float) -> None:
    """What happens far from it does nothing, and of the steps that are near a third may go astray."""
    expected, value = normal_scores(seed, quantile)
    found, near = 1.1 * expected, threshold.nearest(expected, value)
    found[np.setdiff1d(np.arange(len(expected)), near)] += wild
    found[near[::3]] = wild
    assert threshold.same_meaning(expected, found, value) == pytest.approx(1.1 * value)


def test_a_threshold_stays_where_there_is_nothing_to_go_by() -> None:
    nothing, ones = np.zeros(0), np.ones(50)
    assert threshold.same_meaning(nothing, nothing, 2.0) == 2.0
    assert threshold.same_meaning(ones, 0 * ones, 2.0) == 2.0
    assert threshold.same_meaning(ones, np.full(50, np.nan), 2.0) == 2.0


def test_the_file_carries_its_own_threshold(tiny_student: Path, tiny_exported: dict[str, Path]) -> None:
    float32, int8 = (admit(tiny_exported[kind], try_first=False)[0] for kind in ("float32", "int8"))
    in_torch = Checkpoint.load(tiny_student).threshold
    assert (float32.threshold.value, float32.threshold.rule) == (in_torch["value"], in_torch["rule"])
    assert int8.threshold.value == int8.parity["threshold"]
    assert int8.threshold.value == pytest.approx(in_torch["value"], rel=0.1)
    assert int8.threshold.rule.startswith(in_torch["rule"]) and f"{in_torch['value']:.6g}" in int8.threshold.rule
