"""Rows to samples: in the order of time, each once, one a period, without the states that are not meant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from edgekd.data.checks import same_period
from edgekd.data.gaps import MAX_SHARE, hold_samples, true_runs
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
    exact: dict[int, np.ndarray] = field(default_factory=dict)
    """float64 (T,) of columns that are counts."""
    times_s: np.ndarray | None = None
    labels: np.ndarray | None = None
    on: np.ndarray | None = None
    """Rows that are for the detector."""
    parts: list[tuple[str, np.ndarray]] = field(default_factory=list)
    """Name and rows of each entity, in order."""
    rows: np.ndarray | None = None
    """int64 (T,), the row of the file that a sample was; -1: none. None: they are the same."""
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
        self.rows = np.where(none, -1, rows if self.rows is None else self.rows[rows])

    @property
    def starts(self) -> list[int]:
        """First sample of each entity, once `parts` are what follows one after the other."""
        return [int(rows[0]) for _, rows in self.parts]


def begin_anew(table: Table) -> None:
    """A new entity wherever a time that no date tells goes back, as when a logger starts again."""
    assert table.times_s is not None
    parts = []
    for name, rows in table.parts:
        back = np.flatnonzero(np.diff(table.times_s[rows]) < 0) + 1
        pieces = np.split(rows, back) if len(back) <= RESTARTS * len(rows) else [rows]
        parts += [(_numbered(name, k, len(pieces)), piece) for k, piece in enumerate(pieces, 1)]
    if len(parts) > len(table.parts):
        table.notes.append(f"time begins anew in {len(parts) - len(table.parts)} places: a new entity begins there")
        table.parts = parts


def order(table: Table, keep_rows: bool) -> None:
    """Sort the rows of each entity by time, and drop those that are there twice. keep_rows: they only must not go back.

    Raises RecordingError where they do and must not.
    """
    times, parts = table.times_s, []
    twice = again = moved = backward = count = 0
    for name, rows in table.parts:
        if times is not None and len(rows) > 1:
            ahead = np.diff(times[rows])
            if (ahead < 0).any():
                if keep_rows:
                    raise RecordingError(
                        f"{table.source}: time runs backward ({(ahead < 0).sum()} places); sort the rows, or pass "
                        "--time-column none"
                    )
                backward += bool((ahead <= 0).all())
                moved += int((ahead < 0).sum())
                rows = rows[::-1] if (ahead <= 0).all() else rows
                rows = rows[np.argsort(times[rows], kind="stable")]
                table.sorted = True
            if not keep_rows and (times[rows[1:]] == times[rows[:-1]]).any():
                rows, equal, other = _once(table, rows)
                twice, again = twice + equal, again + other
        parts.append((name, rows))
        count += len(rows)
    if moved:
        what = "rows come newest first" if backward == len(parts) else f"time goes back in {moved} places"
        table.notes.append(f"{what}: sorted by time")
    if twice:
        table.notes.append(f"{twice} row{'s are' * (twice > 1) or ' is'} there twice: taken once")
    if again:
        table.notes.append(
            f"{again} rows have the time of another row and other values: "
            + ("the first of each was taken" if again <= _few(count) else "each is taken as a sample of its own")
        )
    ends = np.cumsum([len(rows) for _, rows in parts])
    table.take(np.concatenate([rows for _, rows in parts]))
    table.parts = [(name, np.arange(end - len(rows), end)) for (name, rows), end in zip(parts, ends)]


def _few(count: int) -> float:
    """Of so many rows, how many may be dropped because their time was said before."""
    return min(max(3, COARSE * count), count / 4)


def _once(table: Table, rows: np.ndarray) -> tuple[np.ndarray, int, int]:
    """Rows of one time made one: how many were equal, and how many said something else."""
    assert table.times_s is not None
    times = table.times_s[rows]
    same = np.concatenate(([False], times[1:] == times[:-1]))
    first = np.maximum.accumulate(np.where(same, 0, np.arange(len(rows))))
    later = np.flatnonzero(same)
    mine, theirs = table.values[rows[later]], table.values[rows[first[later]]]
    both = ~np.isnan(mine) & ~np.isnan(theirs)
    differs = (both & (mine != theirs)).any(1)
    for column in table.exact.values():
        a, b = column[rows[later]], column[rows[first[later]]]
        differs |= ~np.isnan(a) & ~np.isnan(b) & (a != b)
    if differs.sum() > _few(len(rows)):
        return rows, 0, int(differs.sum())
    fills = (~np.isnan(mine) & np.isnan(theirs)).any(1)
    if fills.any():
        table.merged = True
        for place in later[fills].tolist():
            to, row = rows[first[place]], rows[place]
            table.values[to] = np.where(np.isnan(table.values[to]), table.values[row], table.values[to])
            for column in table.exact.values():
                column[to] = column[row] if np.isnan(column[to]) else column[to]
    if table.labels is not None:
        np.logical_or.at(table.labels, rows[first[later]], table.labels[rows[later]])
    return rows[~same], int((~differs & ~fills).sum()), int(differs.sum())


def period(table: Table, asked_s: float | None, resampled: bool, keep_rows: bool) -> None:
    """Find the period, and how even the steps in time are.

    Raises RecordingError where the period that was asked for is another, or none can be found.
    """
    if table.times_s is None:
        table.period_s = asked_s or 1.0
        if asked_s is None:
            table.notes.append("no timestamps: one sample is taken as 1 s; --period-s sets it")
        return
    ahead = np.concatenate([np.diff(table.times_s[rows]) for _, rows in table.parts])
    if not len(ahead):
        table.period_s = asked_s or 1.0
        if asked_s is None:
            table.notes.append("a single sample has no period: taken as 1 s; --period-s sets it")
        return
    own_s = _step(ahead)
    if own_s > 0 and abs((short := float(f"{own_s:.2g}")) - own_s) <= ROUNDED * own_s:
        own_s = short
    if own_s <= 0 and asked_s is None:
        raise RecordingError(f"{table.source}: most timestamps repeat the one before; give the period with --period-s")
    table.period_s = asked_s or own_s
    if own_s > 0:
        table.even = float((np.abs(ahead - own_s) <= own_s / 2).mean())
    else:
        table.even = 0.0
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
    return round(middle, 6)


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
    if table.times_s is None or table.even < EVEN:
        return
    longest = hold_samples(table.period_s)
    places, parts, times, at, filled = [], [], [], 0, 0
    for name, rows in table.parts:
        mine = table.times_s[rows]
        ahead = np.maximum(np.round(np.diff(mine) / table.period_s), 1).astype(np.int32)
        if not (ahead > 1).any():
            places.append(rows)
            times.append(mine)
            parts.append((name, np.arange(at, at + len(rows))))
            at += len(rows)
            continue
        new = np.flatnonzero(ahead - 1 > longest) + 1
        pieces = np.split(np.arange(len(rows)), new)
        for k, piece in enumerate(pieces, 1):
            offset = np.concatenate(([0], np.cumsum(ahead[piece[:-1]]))).astype(np.int64)
            found = np.full(int(offset[-1]) + 1, -1)
            found[offset] = rows[piece]
            filled += len(found) - len(piece)
            places.append(found)
            times.append(np.interp(np.arange(len(found)), offset, mine[piece]))
            if k > 1:
                table.gaps.append(TimeGap(at, float(mine[piece[0]] - mine[piece[0] - 1])))
            parts.append((_numbered(name, k, len(pieces)), np.arange(at, at + len(found))))
            at += len(found)
    if filled or len(parts) > len(table.parts):
        table.take(np.concatenate(places))
        table.times_s = np.concatenate(times)
        table.parts = parts
    if table.gaps:
        first = table.gaps[0]
        table.notes.append(
            f"{len(table.gaps)} gap{'s' * (len(table.gaps) > 1)} in time, the longest "
            f"{duration(max(gap.seconds for gap in table.gaps))} (the first before sample {first.sample}): "
            "a new entity begins after each"
        )
    if filled:
        table.notes.append(f"{filled} samples are missing in time: filled with missing values")


def _numbered(name: str, k: int, of: int) -> str:
    return name if of == 1 else f"{name}/{k}" if name else str(k)


def resample(table: Table, rule: str, period_s: float) -> None:
    """One sample a period: the mean or the last of what was said in it, as `Resampler` does.

    Raises RecordingError where there is no time.
    """
    if table.times_s is None:
        raise RecordingError(f"{table.source}: --resample needs a time in each row; name its column with --time-column")
    longest = hold_samples(period_s)
    wide = table.values.shape[1]
    values, exact, times, parts, at = [], [], [], [], 0
    labels: list[np.ndarray] = []
    on: list[np.ndarray] = []
    for name, rows in table.parts:
        cell = np.floor(table.times_s[rows] / period_s + EDGE).astype(np.int64)
        begin = np.concatenate(([0], np.flatnonzero(np.diff(cell)) + 1))
        cells, counted = cell[begin], np.diff(np.append(begin, len(cell)))
        mine = table.values[rows].astype(np.float64)
        counts = (
            np.stack([column[rows] for column in table.exact.values()], 1) if table.exact else np.empty((len(rows), 0))
        )
        both = np.concatenate((mine, counts), 1)
        kept = np.ones(len(rows), bool) if table.on is None else table.on[rows]
        both[~kept] = np.nan
        said = ~np.isnan(both)
        if rule == "last":
            made = _last(both, said, begin, counted)
        else:
            number = np.add.reduceat(said, begin, dtype=np.int64)
            total = np.add.reduceat(np.where(said, both, 0.0), begin)
            made = np.divide(total, number, out=np.full(total.shape, np.nan), where=number > 0)
        off = np.logical_or.reduceat(~kept, begin) & np.isnan(made).all(1)
        label = None if table.labels is None else np.logical_or.reduceat(table.labels[rows], begin)
        pieces = np.split(np.arange(len(cells)), np.flatnonzero(np.diff(cells) - 1 > longest) + 1)
        for k, piece in enumerate(pieces, 1):
            place = cells[piece] - cells[piece[0]]
            count = int(place[-1]) + 1
            whole = np.full((count, both.shape[1]), np.nan)
            whole[place] = made[piece]
            values.append(whole[:, :wide].astype(np.float32))
            exact.append(whole[:, wide:])
            for found, into, empty in ((label, labels, False), (~off, on, True)):
                if found is not None:
                    one = np.full(count, empty)
                    one[place] = found[piece]
                    into.append(one)
            times.append((cells[piece[0]] + np.arange(count)) * period_s)
            if k > 1:
                table.gaps.append(TimeGap(at, float((cells[piece[0]] - cells[piece[0] - 1]) * period_s)))
            parts.append((_numbered(name, k, len(pieces)), np.arange(at, at + count)))
            at += count
    table.values, table.times_s = np.concatenate(values), np.concatenate(times)
    table.exact = dict(zip(table.exact, np.concatenate(exact).T))
    table.labels = np.concatenate(labels) if labels else None
    table.on = np.concatenate(on) if table.on is not None else None
    table.parts, table.period_s, table.even = parts, period_s, 1.0
    table.rows = np.full(at, -1)
    if table.gaps:
        table.notes.append(
            f"{len(table.gaps)} gap{'s' * (len(table.gaps) > 1)} in time: a new entity begins after each"
        )


def _last(values: np.ndarray, said: np.ndarray, begin: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """What was said last in each cell."""
    place = np.where(said, np.arange(len(values))[:, None], -1)
    newest = np.maximum.accumulate(place)[begin + counted - 1]
    found = np.take_along_axis(values, np.maximum(newest, 0), 0)
    return np.where(newest >= begin[:, None], found, np.nan)


def pause(table: Table) -> None:
    """Leave out the samples that are not for the detector, as `Pauses` does: a short stretch is of missing values.

    Raises RecordingError where none is left.
    """
    if table.on is None:
        return
    longest = hold_samples(table.period_s)
    places: list[np.ndarray] = []
    parts, at, left_out = [], 0, 0
    for name, rows in table.parts:
        off = true_runs(~table.on[rows])
        cuts = [(a, b) for a, b in off if b - a > longest or a == 0 or b == len(rows)]
        kept = rows.copy()
        for a, b in off:
            kept[a:b] = -1 - rows[a:b]  # marked: missing, but its time is known
        inner = [piece for piece in np.split(kept, [edge for cut in cuts for edge in cut]) if len(piece)]
        inner = [piece for piece in inner if (piece >= 0).any()]
        for k, piece in enumerate(inner, 1):
            places.append(piece)
            parts.append((_numbered(name, k, len(inner)), np.arange(at, at + len(piece))))
            at += len(piece)
        left_out += sum(b - a for a, b in off)
    if not parts:
        raise RecordingError(f"{table.source}: --only leaves no row; mend the comparison")
    marked = np.concatenate(places)
    times = table.times_s
    table.take(np.where(marked < 0, -1, marked))
    if times is not None:
        table.times_s = times[np.where(marked < 0, -1 - marked, marked)]
    table.parts = parts
    if left_out:
        table.notes.append(
            f"--only leaves out {left_out} of {left_out + int((marked >= 0).sum())} samples; the rest is {len(parts)} "
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
    if not len(codes):
        return [("", np.arange(0))]
    edges = np.concatenate(([0], np.flatnonzero(np.diff(codes)) + 1, [len(codes)]))
    return [(names[codes[a]], np.arange(a, b)) for a, b in pairwise(edges)]


def as_groups(codes: np.ndarray, names: Sequence[str]) -> list[tuple[str, np.ndarray]]:
    """Entities as all rows that say the same name."""
    return [(names[code], np.flatnonzero(codes == code)) for code in np.unique(codes)]
