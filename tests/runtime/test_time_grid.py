"""Values at odd times to samples at the model's period."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from step_models import step_manifest

from edgekd.runtime.layout import Layout, Rule
from edgekd.runtime.sources import InputEvent, Row, Tally
from edgekd.runtime.sources.resample import SET_BACK, Resampler

NAN = float("nan")


def grid_of(n: int, period_s: float, rule: Rule = "mean", longest_gap: int = 600, aligned: bool = False) -> Resampler:
    manifest = step_manifest(n, 1, warmup=longest_gap, period_s=period_s)
    return Resampler(manifest, Layout(resample=rule), live=False, tally=Tally(), aligned=aligned)


def fed(grid: Resampler, *said: tuple[float, list[float]]) -> list:
    """The samples of `said`, times and values; an event where the grid starts anew."""
    return values_of([item for at, values in said for item in grid.put(at, np.array(values))])


def values_of(items: Iterable[Row | InputEvent]) -> list:
    """A sample's values, an event's name."""
    return [item.values.tolist() if isinstance(item, Row) else item.event for item in items]


def same(got: object, want: object) -> bool:
    return np.array_equal(np.array(got), np.array(want), equal_nan=True)


@pytest.mark.parametrize(("rule", "want"), [("mean", [2.0, 10.0]), ("last", [3.0, 10.0])])
def test_a_cell_is_the_mean_or_the_last_of_what_was_said(rule: Rule, want: list[float]) -> None:
    grid = grid_of(2, 1.0, rule)
    assert fed(grid, (100.0, [1, NAN]), (100.2, [NAN, 10]), (100.3, [3, NAN]), (100.4, [np.inf, NAN])) == []
    (first,) = grid.put(101.0, np.array([5.0, 5.0]))
    assert isinstance(first, Row) and first.values.tolist() == want
    assert values_of(grid.tick(101.6)) == [[5, 5]] and grid.tick(101.7) == []


@given(st.lists(st.floats(-0.45, 0.45), min_size=2, max_size=40), st.sampled_from([1e-4, 0.1, 1.0, 60.0]))
def test_a_clock_that_jitters_loses_and_doubles_nothing(jitter: list[float], period_s: float) -> None:
    grid = grid_of(1, period_s)
    jitter[0] = 0.0
    told = [((17e8 if period_s > 1e-3 else 0.0) + (i + j) * period_s, [float(i)]) for i, j in enumerate(jitter)]
    assert fed(grid, *told) == [[i] for i in range(len(jitter) - 1)]


def test_cells_begin_at_whole_periods_where_they_are_to() -> None:
    grid = grid_of(1, 0.1, aligned=True)
    told = [(17e8 + i / 20, [float(i)]) for i in range(3, 12)]  # 0.15, 0.2, 0.25 …: two to a tenth of a second
    assert fed(grid, *told) == [[3.0], [4.5], [6.5], [8.5]]


def test_a_sensor_that_says_nothing_is_missing_and_a_short_gap_keeps_its_length() -> None:
    grid = grid_of(2, 10.0)
    got = fed(grid, (0.0, [1, 2]), (10.0, [3, NAN]), (40.0, [4, 5]), (50.0, [6, 7]))
    assert same(got, [[1, 2], [3, NAN], [NAN, NAN], [NAN, NAN], [4, 5]])


def test_a_long_gap_starts_anew_whether_time_was_told_or_not() -> None:
    told, silent = grid_of(1, 1.0, longest_gap=3), grid_of(1, 1.0, longest_gap=3)
    got = fed(told, (0.0, [1]))
    for second in range(1, 50):
        got += values_of(told.tick(second))
    got += fed(told, (50.3, [2]), (51.3, [3]))
    assert got.pop(4) == "input_gap" and same(got, [[1], [NAN], [NAN], [NAN], [2]])
    again = fed(silent, (0.0, [1]), (50.3, [2]), (51.3, [3]))
    assert again.pop(4) == "input_gap" and same(again, got)
    assert (
        len(silent.tick(1e12)) == 4 + 1
    )  # and the gap: a machine that slept for years does not fill them with samples


def test_stragglers_are_dropped_and_a_clock_that_is_set_back_is_followed() -> None:
    grid = grid_of(1, 1.0, longest_gap=1000)
    got = fed(grid, (100.0, [1]), (101.0, [2]), (100.1, [9]), (102.0, [3]))
    assert got == [[1], [2]] and grid._tally.bad == 1
    hour_back = [(2.0 + i, [4.0]) for i in range(SET_BACK + 3)]
    assert fed(grid, *hour_back) == [[3], "input_gap", [4], [4]]
    assert grid._tally.bad == 1 + SET_BACK
    day_back = [(-86400.0, [5.0]), (-86399.0, [6.0])]
    assert fed(grid, *day_back) == [[4], "input_gap", [5]]
