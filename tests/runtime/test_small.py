"""The device is small: the lines of ours that it loads are bounded."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bench.promises import loaded_lines
from bench.promises.loaded_lines import BOUNDS, CSV, LIBRARY, LOOP, RUNTIME, SERIAL


@pytest.mark.parametrize(
    ("name", "count"),
    [
        (LIBRARY, loaded_lines.detector),
        (CSV, loaded_lines.csv_run),
        (SERIAL, loaded_lines.serial_run),
        (RUNTIME, loaded_lines.runtime),
    ],
)
def test_the_lines_stay_within_their_bound(name: str, count: Callable[[], dict[str, int]]) -> None:
    found = count()
    assert sum(found.values()) <= BOUNDS[name], found
    assert not any("gateway" in file for file in found)


def test_the_loop_stays_within_its_bound() -> None:
    assert loaded_lines.loop() <= BOUNDS[LOOP]
