"""Counts become steps, and states that a detector is not to see are left out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from edgekd.runtime.layout import Layout
from edgekd.runtime.sources import InputEvent, Row
from edgekd.runtime.sources.row_reader import RowReader
from tests.step_models import step_manifest

NAN = float("nan")


def reader(warmup: int = 4, **layout: Any) -> RowReader:
    manifest = step_manifest(2, 2, warmup=warmup)
    sensors = tuple(replace(sensor, fill=7.0) for sensor in manifest.sensors)
    return RowReader(replace(manifest, sensors=sensors), {}, layout=Layout(**layout))


def values(items: list[Row | InputEvent]) -> list[Any]:
    return [item.values.tolist() if isinstance(item, Row) else item.event for item in items]


def test_steps_survive_what_float32_loses_and_a_wrap() -> None:
    rows = reader(difference=("s0", "s1:65536"))
    found = values(rows.feed(b"s0,s1\n123456789.25,65534\n123456789.50,65535\n123456789.75,1\n"))
    assert found == [[7, 7], [0.25, 1], [0.25, 2]]


def test_a_reset_is_missing_and_a_gap_has_no_step_over_it() -> None:
    rows = reader(difference=("s0",), sequence="n")
    text = b"n,s0,s1\n0,10,1\n1,12,1\n2,0,1\n3,3,1\n100,500,1\n101,501,1\n"
    found = values(rows.feed(text))
    assert np.array_equal(
        np.array([row[0] for row in found if row != "input_gap"]), [7, 2, NAN, 3, 7, 1], equal_nan=True
    )
    assert found[4] == "input_gap"


def test_a_short_gap_s_steps_are_missing() -> None:
    rows = reader(difference=("s0",), sequence="n")
    found = [row[0] for row in values(rows.feed(b"n,s0,s1\n0,10,1\n1,12,1\n3,16,1\n4,18,1\n"))]
    assert np.array_equal(found, [7, 2, NAN, NAN, 2], equal_nan=True)


def test_other_states_pause_and_a_long_pause_warms_up_again() -> None:
    rows = reader(only=("pump > 0",))
    on, off = b"1,2,ON\n", b"9,9,OFF\n"
    head = values(rows.feed(b"s0,s1,pump\n" + off * 3 + on * 2 + off * 3 + on))
    assert head[:2] == [[1, 2], [1, 2]] and np.isnan(head[2:5]).all() and head[5:] == [[1, 2]]
    hold = step_manifest(2, 2).max_hold_samples
    assert values(rows.feed(off * (hold + 1) + on)) == ["pause_over", [1, 2]]


def test_words_and_two_comparisons_tell_states_apart() -> None:
    rows = reader(only=("state == RUN", "load >= 0.5"))
    found = values(rows.feed(b"s0,s1,state,load\n1,1,RUN,0.5\n2,2,IDLE,0.9\n3,3,run,0.4\n4,4,run,\n"))
    assert found == [[1, 1]]
    assert rows.feed(b"5,5\n") == [] and rows.bad == 1  # a line that does not say its state
