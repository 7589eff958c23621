"""Missing values: short runs are held from the last good value, long ones are refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from edgekd.runtime.errors import RecordingError

HOLD_S = 5.0
"""A missing sensor is held for this long on a device ..."""
HOLD_SAMPLES = 5
"""... or for so many samples, whichever is longer; a longer gap in time begins a new entity."""
MAX_RUN = 100
"""Samples that may be held: a longer straight line would teach the detector that a stuck sensor is normal."""
MAX_SHARE = 0.1
"""Share of one sensor's samples that may be held in all, for the same reason."""


def hold_samples(period_s: float) -> int:
    """Samples in a row that may be missing before a new entity begins."""
    return max(HOLD_SAMPLES, int(HOLD_S / period_s + 1e-9))


def bounds_of(starts: Sequence[int], count: int) -> list[tuple[int, int]]:
    """[start, end) of each entity of so many samples."""
    return list(zip(starts, (*starts[1:], count)))


def longest_run(missing: np.ndarray, bounds: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """[start, end) of the longest run of True in bool (T,), which has one, within one entity."""
    runs = [(start + a, start + b) for start, end in bounds for a, b in true_runs(missing[start:end])]
    return max(runs, key=lambda run: run[1] - run[0])


def to_float32(
    values: np.ndarray,
    sensors: Sequence[str],
    source: str,
    starts: Sequence[int] = (0,),
    where: Callable[[int], str] = "row {}".format,
) -> tuple[np.ndarray, list[str]]:
    """Finite, C-contiguous float32 values from numbers with gaps, and a note for every sensor that had some.

    Args:
        values: (T, n) numbers; NaN and infinities are missing values.
        sensors: n names, for the messages.
        source: name of the file, for the messages.
        starts: first sample of each entity; nothing is held across one.
        where: words for row i of `values`, e.g. its line in the file.

    Raises RecordingError naming sensor and rows where a run is longer than MAX_RUN samples or more than MAX_SHARE of
    a sensor is missing.
    """
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes inf, which is refused or held below
        values = np.array(values, dtype=np.float32, order="C")
    missing, bounds = ~np.isfinite(values), bounds_of(starts, len(values))
    notes = [
        _hold(values[:, column], missing[:, column], str(sensors[column]), source, bounds, where)
        for column in np.flatnonzero(missing.any(axis=0)).tolist()
    ]
    return values, notes


def _hold(
    column: np.ndarray,
    missing: np.ndarray,
    sensor: str,
    source: str,
    bounds: Sequence[tuple[int, int]],
    where: Callable[[int], str],
) -> str:
    """Fill one sensor in place; the note that says so."""
    total, (first, last) = int(missing.sum()), longest_run(missing, bounds)
    if too_many(missing, last - first):
        raise RecordingError(
            f"{source}: sensor '{sensor}' has no value in {total} of {len(column)} samples, the longest run from "
            f"{where(first)} to {where(last - 1)}; leave the sensor out, or cut these rows"
        )
    for start, end in bounds:
        if missing[start:end].all():
            raise RecordingError(
                f"{source}: sensor '{sensor}' has no value at all from {where(start)} to {where(end - 1)}; "
                "leave the sensor out, or cut these rows"
            )
        _fill(column[start:end], missing[start:end])
    return held_words(sensor, total, last - first, where(first))


def too_many(missing: np.ndarray, longest: int) -> bool:
    """Whether so many of the samples of a sensor, bool (T,), may not be held."""
    return longest > MAX_RUN or bool(missing.sum() > max(1, MAX_SHARE * len(missing)))


def held_words(sensor: str, total: int, longest: int, where: str) -> str:
    """A note of missing values. where: the longest run begins."""
    return (
        f"sensor '{sensor}': {total} missing value{'s' * (total > 1)} held from the last good one "
        f"(longest run {longest}, at {where})"
    )


def hold(values: np.ndarray, starts: Sequence[int]) -> None:
    """Fill the missing values of float32 (T, n) in place from the last good one, or the first, of the same entity."""
    for column in values.T:
        missing = np.isnan(column)
        for start, end in bounds_of(starts, len(values)) if missing.any() else ():
            _fill(column[start:end], missing[start:end])


def _fill(column: np.ndarray, missing: np.ndarray) -> None:
    good = np.flatnonzero(~missing)
    if len(good) == len(column):
        return
    # index of the last good sample before each one; before the first good one, that first one
    last = np.searchsorted(good, np.arange(len(column)), side="right") - 1
    column[:] = column[good[np.maximum(last, 0)]]


def true_runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """[start, end) of each run of True in a bool (T,) array."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], flags, [False])).astype(np.int8)))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2])]
