"""Rows to samples: in the order of time, each once, one a period, without the states that are not meant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from edgekd.data.checks import same_period
from edgekd.data.gaps import MAX_SHARE, bounds_of, hold_samples, true_runs
from edgekd.data.reading import TimeGap
from edgekd.runtime.duration import duration, seconds_in
from edgekd.runtime.errors import RecordingError
from edgekd.runtime.sources.difference import steps
from edgekd.runtime.sources.resample import EDGE

EVEN = 0.9
"""Share of the steps in time that must be about the period for time to say where samples are missing."""
COARSE = 0.05
"""Share of rows of which the clock is too coarse to tell them apart: above it they are samples of their own."""
ROUNDED = 5e-4
"""What labels with few decimals, such as minutes, may add to a period of one or two digits, or take from it."""
USUAL = ("1s", "2s", "5s", "10s", "30s", "1min", "5min", "10min", "15min", "30min", "1h", "2h", "3h", "6h", "12h", "1d")
RESTARTS = 0.02
"""Share of the steps in time that may go back where a logger starts again; above it the rows are out of order."""


@dataclass
class Table:
    """Rows of one file, as they came."""

    source: str
    """For messages."""
    names: tuple[str, ...]
    values: np.ndarray
    """float32 (T, n), NaN where a value is missing."""
    lines: np.ndarray
    """int (T,), the line of the file that a sample was; -1: none."""
    exact: dict[int, np.ndarray] = field(default_factory=dict)
    """float64 (T,) of columns that are counts."""
    times_s: np.ndarray | None = None
    labels: np.ndarray | None = None
    on: np.ndarray | None = None
    """Rows that are for the detector."""
    parts: list[tuple[str, np.ndarray]] = field(default_factory=list)
    """Name and rows of each entity, in order."""
    period_s: float = 1.0
    even: float = 1.0
    gaps: list[TimeGap] = field(default_factory=list)
    sorted: bool = False
    merged: bool = False
    notes: list[str] = field(default_factory=list)

    def take(self, rows: np.ndarray) -> None:
        """Keep these rows in this order; -1 is one of missing values."""
        if len(rows) == len(self.values) and (rows == np.arange(len(rows))).all():
            return
        none = rows < 0
        self.values = self.values[rows]
        self.values[none] = np.nan
        for i, column in self.exact.items():
            self.exact[i] = np.where(none, np.nan, column[rows])
        if self.labels is not None:
            self.labels = self.labels[rows] & ~none
        if self.on is not None:
            self.on = self.on[rows] | none
        if self.times_s is not None:
            self.times_s = self.times_s[rows]
        self.lines = np.where(none, -1, self.lines[rows])

    def lay(self, pieces: Sequence[tuple[str, np.ndarray]]) -> None:
        """`take` the rows of these entities, one after the other."""
        self.take(np.concatenate([rows for _, rows in pieces]))
        self.parts, at = [], 0
        for name, rows in pieces:
            self.parts.append((name, np.arange(at, at + len(rows))))
            at += len(rows)

    @property
    def starts(self) -> list[int]:
        """First sample of each entity, once they follow one after the other."""
        return [int(rows[0]) for _, rows in self.parts]

    @property
    def bounds(self) -> list[tuple[int, int]]:
        """[start, end) of each entity, likewise."""
        return bounds_of(self.starts, len(self.values))

    def where(self, sample: int) -> str:
        """Words for a sample: its line in the file."""
        return f"line {self.lines[sample]}" if self.lines[sample] >= 0 else f"sample {sample}"

    def span(self, start: int, end: int) -> str:
        """Words for the samples [start, end)."""
        return f"{self.where(start)} to {self.where(end - 1)}"

    def seconds(self) -> np.ndarray:
        """`times_s`, where it is known to be there."""
        assert self.times_s is not None
        return self.times_s


def begin_anew(table: Table) -> None:
    """A new entity wherever a time that no date tells goes back, as when a logger starts again."""
    parts = []
    for name, rows in table.parts:
        back = np.flatnonzero(np.diff(table.seconds()[rows]) < 0) + 1
        parts += _pieces(name, np.split(rows, back) if len(back) <= RESTARTS * len(rows) else [rows])
    if len(parts) > len(table.parts):
        table.notes.append(f"time begins anew in {len(parts) - len(table.parts)} places: a new entity begins there")
        table.parts = parts


def _pieces(name: str, pieces: Sequence[np.ndarray]) -> list[tuple[str, np.ndarray]]:
    """The pieces of an entity, each with a name of its own."""
    if len(pieces) == 1:
        return [(name, pieces[0])]
    return [(f"{name}/{k}" if name else str(k), piece) for k, piece in enumerate(pieces, 1)]


def order(table: Table, keep_rows: bool) -> None:
    """Sort the rows of each entity by time, and drop those that are there twice. keep_rows: they only must not go back.

    Raises RecordingError where they do and must not.
    """
    if table.times_s is None:
        return table.lay(table.parts)
    parts, back, reversed_parts = [], 0, 0
    for name, rows in table.parts:
        ahead = np.diff(table.times_s[rows])
        if (ahead < 0).any():
            back += int((ahead < 0).sum())
            if (ahead <= 0).all():
                reversed_parts += 1
                rows = rows[::-1]
            rows = rows[np.argsort(table.times_s[rows], kind="stable")]
        parts.append((name, rows))
    if back and keep_rows:
        raise RecordingError(
            f"{table.source}: time runs backward ({back} places); sort the rows, or pass --time-column none"
        )
    if back:
        table.sorted = True
        newest_first = reversed_parts == len(parts)
        what = "rows come newest first" if newest_first else f"time goes back in {back} places"
        table.notes.append(f"{what}: sorted by time")
    table.lay(parts if keep_rows else _once(table, parts))


def _few(count: int) -> float:
    """Of so many rows, how many may be dropped because their time was said before."""
    return min(max(3, COARSE * count), count / 4)


def _once(table: Table, parts: list[tuple[str, np.ndarray]]) -> list[tuple[str, np.ndarray]]:
    """Rows of one time made one, with a note."""
    kept, twice, again = [], 0, 0
    for name, rows in parts:
        rows, equal, other = _merged(table, rows)
        twice, again = twice + equal, again + other
        kept.append((name, rows))
    if twice:
        table.notes.append(f"{twice} row{'s are' * (twice > 1) or ' is'} there twice: taken once")
    if again:
        few = again <= _few(sum(len(rows) for _, rows in kept))
        table.notes.append(
            f"{again} rows have the time of another row and other values: "
            + ("the first of each was taken" if few else "each is taken as a sample of its own")
        )
    return kept


def _merged(table: Table, rows: np.ndarray) -> tuple[np.ndarray, int, int]:
    """Rows of one time made one: what is left, how many were equal, and how many said something else."""
    times = table.seconds()[rows]
    same = np.concatenate(([False], times[1:] == times[:-1]))
    first = np.maximum.accumulate(np.where(same, 0, np.arange(len(rows))))
    later = np.flatnonzero(same)
    into, of = rows[first[later]], rows[later]
    differs, fills = np.zeros((2, len(later)), bool)
    for column in (*table.values.T, *table.exact.values()):
        differs |= (column[of] != column[into]) & ~np.isnan(column[of]) & ~np.isnan(column[into])
    if differs.sum() > _few(len(rows)):
        return rows, 0, int(differs.sum())
    for column in (*table.values.T, *table.exact.values()):
        fills |= ~np.isnan(column[of]) & np.isnan(column[into])
    for to, row in zip(into[fills].tolist(), of[fills].tolist()):
        table.merged = True
        for column in (*table.values.T, *table.exact.values()):
            column[to] = column[row] if np.isnan(column[to]) else column[to]
    if table.labels is not None:
        np.logical_or.at(table.labels, into, table.labels[of])
    return rows[~same], int((~differs & ~fills).sum()), int(differs.sum())


def period(table: Table, asked_s: float | None, resampled: bool, keep_rows: bool) -> None:
    """Find the period, and how even the steps in time are.

    Raises RecordingError where the period that was asked for is another, or none can be found.
    """
    parts = table.parts if table.times_s is not None else []
    ahead = np.concatenate([np.array([]), *(np.diff(table.seconds()[rows]) for _, rows in parts)])
    if not len(ahead):
        table.period_s = asked_s or 1.0
        if asked_s is None:
            why = "no timestamps: one sample is" if table.times_s is None else "a single sample has no period:"
            table.notes.append(f"{why} taken as 1 s; --period-s sets it")
        return
    own_s = _step(ahead)
    if own_s <= 0 and asked_s is None:
        raise RecordingError(f"{table.source}: most timestamps repeat the one before; give the period with --period-s")
    table.period_s = asked_s or own_s
    table.even = float((np.abs(ahead - own_s) <= own_s / 2).mean()) if own_s > 0 else 0.0
    if keep_rows and asked_s is not None:
        return
    if asked_s is not None and not resampled and table.even >= EVEN and not same_period(asked_s, own_s):
        raise RecordingError(
            f"{table.source}: its rows come each {own_s:g} s, not {asked_s:g} s; leave out --period-s, or pass "
            "--resample mean to make samples of that period"
        )
    if table.even < EVEN and not resampled:
        table.notes.append(
            f"{1 - table.even:.0%} of the steps in time differ from the period of {table.period_s:g} s (longest "
            f"{duration(float(ahead.max()))}); rows are taken as evenly spaced; "
            f"--resample {whole_period(ahead, table.period_s)} aligns them"
        )


def _step(ahead: np.ndarray) -> float:
    """The period of steps in time: the usual one; where none is, as with jitter, the mean of those about the middle."""
    middle = float(np.median(ahead))
    if (np.abs(ahead - middle) <= 0.01 * middle).mean() < EVEN:
        middle = float(ahead[np.abs(ahead - middle) <= middle / 2].mean())
    step = round(middle, 6)
    short = float(f"{step:.2g}")
    return short if abs(short - step) <= ROUNDED * step else step


def whole_period(ahead: np.ndarray, period_s: float) -> str:
    """For --resample: the period, or the shortest usual one above it, of which few samples lack a row.

    ahead: steps in time.
    """
    times = np.concatenate(([0.0], np.cumsum(np.abs(ahead))))
    for usual in (f"{period_s:g}s", *USUAL):
        length = seconds_in(usual)
        steps = np.diff(np.unique(np.floor(times / length)))
        steps = steps[steps - 1 <= hold_samples(length)]
        if length >= period_s and len(steps) >= (1 - MAX_SHARE) * steps.sum() > 0:
            return "mean" if usual == f"{period_s:g}s" else usual
    return "1d"


def fill(table: Table) -> None:
    """Missing values where rows are missing; a longer gap begins a new entity."""
    if table.times_s is None or table.even < EVEN or not any(_lacks_rows(table, rows) for _, rows in table.parts):
        return
    filled = _spread(table)
    if table.gaps:
        first, longest = table.gaps[0].sample, max(gap.seconds for gap in table.gaps)
        table.notes.append(
            f"{_counted(table.gaps)} in time, the longest {duration(longest)} (the first before sample {first}): a new "
            "entity begins after each"
        )
    if filled:
        table.notes.append(f"{filled} samples are missing in time: filled with missing values")


def _lacks_rows(table: Table, rows: np.ndarray) -> bool:
    times = table.seconds() if len(rows) == len(table.values) else table.seconds()[rows]  # a long recording, no copy
    return len(times) > 1 and bool(np.round(np.diff(times).max() / table.period_s) > 1)


def _counted(gaps: Sequence[TimeGap]) -> str:
    return f"{len(gaps)} gap{'s' * (len(gaps) > 1)}"


def _spread(table: Table) -> int:
    """Put each row at its time, with samples between them, but across long gaps; the number of those samples."""
    parts, times, at, count = [], [], 0, len(table.values)
    for name, rows in table.parts:
        mine = table.seconds()[rows]
        ahead = np.maximum(np.round(np.diff(mine) / table.period_s), 1).astype(np.int64)
        breaks = np.flatnonzero(ahead - 1 > hold_samples(table.period_s)) + 1
        pieces: list[np.ndarray] = []
        for piece in np.split(np.arange(len(rows)), breaks):
            if pieces:
                table.gaps.append(TimeGap(at, float(mine[piece[0]] - mine[piece[0] - 1])))
            offset = np.concatenate(([0], np.cumsum(ahead[piece[:-1]])))
            places = np.full(int(offset[-1]) + 1, -1)
            places[offset] = rows[piece]
            times.append(np.interp(np.arange(len(places)), offset, mine[piece]))
            pieces.append(places)
            at += len(places)
        parts += _pieces(name, pieces)
    table.lay(parts)
    table.times_s = np.concatenate(times)
    return at - count


def resample(table: Table, rule: str, period_s: float) -> None:
    """One sample a period: the mean or the last of what was said in it, as `Resampler` does.

    Raises RecordingError where there is no time.
    """
    if table.times_s is None:
        raise RecordingError(f"{table.source}: --resample needs a time in each row; name its column with --time-column")
    cells = np.floor(table.times_s / period_s + EDGE)
    begins = np.diff(cells, prepend=np.nan) != 0
    begins[table.starts] = True
    first = np.flatnonzero(begins)
    numbers = np.column_stack([table.values, *table.exact.values()]).astype(np.float64)
    if table.on is not None:
        numbers[~table.on] = np.nan
    made = _last(numbers, first) if rule == "last" else _mean(numbers, first)
    wide = table.values.shape[1]
    table.values, exact = made[:, :wide].astype(np.float32), made[:, wide:]
    table.exact = dict(zip(table.exact, exact.T))
    if table.labels is not None:
        table.labels = np.logical_or.reduceat(table.labels, first)
    if table.on is not None:
        table.on = np.logical_and.reduceat(table.on, first) | ~np.isnan(made).all(1)
    table.lines, table.times_s = np.full(len(first), -1), cells[first] * period_s
    edges = np.searchsorted(first, [*table.starts, len(cells)])
    table.parts = [(name, np.arange(a, b)) for (name, _), (a, b) in zip(table.parts, pairwise(edges))]
    table.period_s, table.even = period_s, 1.0
    _spread(table)
    table.times_s = np.round(table.times_s / period_s) * period_s
    if table.gaps:
        table.notes.append(f"{_counted(table.gaps)} in time: a new entity begins after each")


def _mean(values: np.ndarray, begin: np.ndarray) -> np.ndarray:
    """Means (cells, n) of the float64 (T, n) in each cell, NaN where there is none. begin: first row of each."""
    said = ~np.isnan(values)
    number = np.add.reduceat(said, begin, dtype=np.int64)
    total = np.add.reduceat(np.where(said, values, 0.0), begin)
    return np.divide(total, number, out=np.full(total.shape, np.nan), where=number > 0)


def _last(values: np.ndarray, begin: np.ndarray) -> np.ndarray:
    """What was said last in each cell, likewise."""
    place = np.where(np.isnan(values), -1, np.arange(len(values))[:, None])
    newest = np.maximum.reduceat(place, begin)
    found = np.take_along_axis(values, np.maximum(newest, 0), 0)
    return np.where(newest >= 0, found, np.nan)


def pause(table: Table) -> None:
    """Leave out the samples that are not for the detector, as `Pauses` does: a short stretch is of missing values.

    Raises RecordingError where none is left.
    """
    if table.on is None:
        return
    parts: list[tuple[str, np.ndarray]] = []
    for name, rows in table.parts:
        edges = [
            edge
            for a, b in true_runs(~table.on[rows])
            if b - a > hold_samples(table.period_s) or a == 0 or b == len(rows)
            for edge in (a, b)
        ]
        parts += _pieces(name, [piece for piece in np.split(rows, edges) if table.on[piece].any()])
    if not parts:
        raise RecordingError(f"{table.source}: --only leaves no row; mend the comparison")
    off, count = ~table.on, len(table.on)
    for column in (table.values, *table.exact.values()):
        column[off] = np.nan
    if table.labels is not None:
        table.labels &= table.on
    table.lay(parts)
    if off.any():
        table.notes.append(
            f"--only leaves out {off.sum()} of {count} samples; the rest is {len(parts)} "
            f"stretch{'es' * (len(parts) > 1)}, the shortest of {min(len(rows) for _, rows in parts)} samples"
        )


def difference(table: Table, moduli: dict[int, float]) -> None:
    """Steps in the place of counts, anew in each entity, as `Difference` does."""
    for i, modulus in moduli.items():
        counts = table.exact[i]
        before = np.concatenate(([np.nan], counts[:-1]))
        before[table.starts] = np.nan
        table.values[:, i] = steps(before, counts, np.array(modulus))


def as_runs(codes: np.ndarray, names: Sequence[str]) -> list[tuple[str, np.ndarray]]:
    """Entities as stretches of rows that say the same name."""
    edges = np.concatenate(([0], np.flatnonzero(np.diff(codes)) + 1, [len(codes)]))
    return [(names[codes[a]], np.arange(a, b)) for a, b in pairwise(edges)]


def as_groups(codes: np.ndarray, names: Sequence[str]) -> list[tuple[str, np.ndarray]]:
    """Entities as all rows that say the same name."""
    return [(names[code], np.flatnonzero(codes == code)) for code in np.unique(codes)]
