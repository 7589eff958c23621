"""Timestamps: read them, check that they run forward, and take the sampling period from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import numpy as np

from edgekd.runtime.errors import RecordingError

WORDS = ("ISO 8601 (2026-01-31T13:45:00) or a number of seconds", "a number of seconds as in the first row")
UNEVEN = 0.5
"""A step that is off the median by more than this share of it counts as uneven."""


def parse_times(texts: Sequence[str], source: str, where: Callable[[int], str]) -> np.ndarray:
    """float64 (T,) seconds since the epoch, from ISO 8601 texts or epoch seconds, milli-, micro- or nanoseconds.

    A text without a zone counts as UTC. Raises RecordingError naming the row that cannot be read.
    """
    read = _iso if _number(texts[0]) is None else _number  # a column is of one kind
    times_s = np.empty(len(texts))
    for i, text in enumerate(texts):
        moment = read(text)
        if moment is None:
            raise RecordingError(
                f"{source}: time '{text.strip()[:40]}' at {where(i)} is not {WORDS[read is _number]}; rewrite the "
                "column, or pass --time-column none to do without"
            )
        times_s[i] = moment
    return to_seconds(times_s) if read is _number else times_s


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if np.isfinite(number) else None


def _iso(text: str) -> float | None:
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def to_seconds(numbers: np.ndarray) -> np.ndarray:
    """Epoch numbers in seconds; which unit they have shows in their size (1e11 s is the year 5138)."""
    size = float(np.median(np.abs(numbers)))
    for limit, unit in ((1e17, 1e9), (1e14, 1e6), (1e11, 1e3)):
        if size > limit:
            return numbers / unit
    return numbers


def require_forward(times_s: np.ndarray, source: str, starts: Sequence[int], where: Callable[[int], str]) -> list[str]:
    """Raise RecordingError where time runs backward within an entity; a note where it stands still."""
    steps = np.diff(times_s)
    inside = np.ones(len(steps), bool)
    inside[[s - 1 for s in starts if s > 0]] = False
    backward = np.flatnonzero((steps < 0) & inside)
    if len(backward):
        raise RecordingError(
            f"{source}: time runs backward at {where(int(backward[0]) + 1)} ({len(backward)} "
            f"place{'s' * (len(backward) > 1)} in all); sort the rows, write times in UTC, or pass --time-column none"
        )
    repeated = int(((steps == 0) & inside).sum())
    return [f"{repeated} timestamps repeat the one before"] if repeated else []


def median_step(times_s: np.ndarray, source: str, starts: Sequence[int] = (0,)) -> tuple[float, list[str]]:
    """Sampling period in seconds and, where the steps are uneven, a note.

    Raises RecordingError where more than half of the steps are zero.
    """
    steps = np.delete(np.diff(times_s), [s - 1 for s in starts if s > 0])
    if len(steps) == 0:
        return 1.0, ["a single sample has no period: taken as 1 s; --period-s sets it"]
    period_s = round(float(np.median(steps)), 6)
    if period_s <= 0:
        raise RecordingError(f"{source}: most timestamps repeat the one before; give the period with --period-s")
    uneven = int((np.abs(steps - period_s) > UNEVEN * period_s).sum())
    if not uneven:
        return period_s, []
    return period_s, [
        f"{uneven} of {len(steps)} steps in time differ from the period of {period_s:g} s (longest "
        f"{steps.max():g} s); samples are taken as evenly spaced"
    ]
