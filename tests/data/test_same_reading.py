"""What the device reads by a layout is what the workstation read when it found it, sample by sample."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.promises.layouts import AXES, case_of
from edgekd.data import look
from edgekd.data.gaps import HOLD_SAMPLES
from edgekd.data.reading import Reading
from edgekd.runtime.errors import EdgeKDError
from edgekd.runtime.manifest import Manifest
from edgekd.runtime.sources import InputEvent, Row
from edgekd.runtime.sources.csv_file import CsvFile
from tests.step_models import step_manifest


def manifest_of(found: Reading) -> Manifest:
    """Of a model that was trained on what was found; it looks no further back than a gap may be filled."""
    manifest = step_manifest(len(found.columns), 1, HOLD_SAMPLES, found.period_s)
    switch = [np.isin(column[~np.isnan(column)], (0, 1)).all() for column in found.values.T]
    sensors = tuple(
        replace(sensor, name=column.name, unit=column.unit, low=0.0, high=1.0 if on else 2.0)
        for sensor, column, on in zip(manifest.sensors, found.columns, switch)
    )
    return replace(manifest, sensors=sensors, layout=found.layout, max_hold_s=HOLD_SAMPLES * found.period_s)


def on_the_device(path: Path, manifest: Manifest, likely: bool) -> tuple[np.ndarray, list[int]]:
    """float32 (T, n), and the samples at which it warms up again."""
    assert manifest.layout is not None
    rows: list[np.ndarray] = []
    starts = [0]
    for items in CsvFile(path, manifest, {}, manifest.layout, likely):
        for item in items:
            if isinstance(item, Row):
                rows.append(item.values)
            elif isinstance(item, InputEvent) and item.rewarm:
                starts.append(len(rows))
    return np.array(rows, np.float32), starts


def same(found: Reading, path: Path, likely: bool) -> None:
    values, starts = on_the_device(path, manifest_of(found), likely)
    assert values.shape == found.values.shape and tuple(starts) == found.starts
    np.testing.assert_array_equal(values, found.values)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(
    axes=st.fixed_dictionaries({name: st.sampled_from(choices) for name, choices in AXES.items()}),
    seed=st.integers(0, 2**32),
    likely=st.booleans(),
)
def test_a_random_table_in_a_random_layout(
    tmp_path_factory: pytest.TempPathFactory, axes: dict[str, Any], seed: int, likely: bool
) -> None:
    case = case_of(axes, seed)
    if case is None:
        return
    path = tmp_path_factory.mktemp("case") / case.name
    path.write_bytes(case.content)
    try:
        found = look(path, **case.how)
    except EdgeKDError:
        return
    same(found, path, likely)
