"""What a pass found, to samples: their times, their order, the sensors among the columns, and what is to be noted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import Literal

import numpy as np

from edgekd.data.reading import Column, Reading
from edgekd.data.request import Request, shorten
from edgekd.data.table import axis
from edgekd.data.table.columns import NONE, require_known
from edgekd.data.table.long import wide
from edgekd.data.table.rows import Pass
from edgekd.data.table.sensors import in_words, sensors_of, tell_left_out, tell_missing, whole_enough
from edgekd.data.table.times import has_date
from edgekd.runtime.errors import RecordingError
from edgekd.runtime.layout import Layout, Rule
from edgekd.runtime.sources.difference import parse as parse_difference
from edgekd.runtime.sources.time_labels import UNITS

BAD_SHARE, BAD_LINES = 0.01, 3
"""Lines that may be no rows: this share of them, or so many."""
REMARKS_SHARE = 0.1
"""Lines of a single cell among rows of several; after the last row there may be any number."""
DATED_S = 3e8  # labels of seconds since 1970 that are all before 1979 are seconds since something else
FEW = 64
"""Names of machines, or states, that are told apart."""
MAX_NOTES = 1400
"""Characters of all notes."""


def reading_of(
    request: Request, passed: Pass, rule: Rule | Literal[""], period_s: float | None, keep_rows: bool
) -> Reading:
    """What a pass found, made into samples.

    Raises RecordingError where it cannot be.
    """
    path = request.path
    notes = [*passed.plan.found.notes, *_about_lines(path, passed)]
    if not passed.rows:
        _refuse_none(path, passed)
    if passed.plan.roles.tag is not None:
        passed = wide(passed)
    plan = passed.plan
    require_known(request, plan.names)
    names, left_out = sensors_of(request, passed)  # in the order of the columns
    time_format, times = _times(passed, notes)
    dated = times is not None and has_date(time_format) and (time_format not in UNITS or _is_dated(times))
    table = _table(path, passed, names, times, notes)
    if times is not None and plan.roles.entity is None and plan.roles.picked is None and not keep_rows:
        _refuse_machines(passed, table)
    _arrange(table, passed, rule, period_s, dated, keep_rows)
    if times is not None and not dated:
        table.times_s = table.seconds() - table.seconds()[0]
        if time_format != "elapsed" or _is_time_of_day(times):
            notes.append("no date: times are taken as time of day, or as counted from the start")
    wanted = bool(request.sensors) or bool(plan.layout.sensors)
    kept, every = whole_enough(request, table, left_out, wanted)
    sensors = [names[j] for j in kept]
    if len(kept) < len(names):
        table.values = np.ascontiguousarray(table.values[:, kept])
    tell_missing(table, sensors, every, passed)
    if left_out and not wanted:
        tell_left_out(table, left_out)
    if not sensors:
        usual = "" if times is None else axis.whole_period(np.diff(times), period_s or table.period_s)
        longer = f", or pass --resample {usual}" if usual else ""
        raise RecordingError(
            f"{path}: no sensor columns are left ({in_words(left_out)}); name some with --sensors{longer}"
        )
    return Reading(
        source=path.name,
        layout=_complete(passed, table, time_format, rule, sensors),
        columns=_columns(passed, sensors, every),
        values=table.values,
        period_s=table.period_s,
        times_s=table.times_s,
        dated=dated,
        labels=table.labels,
        starts=tuple(table.starts),
        entities=tuple(name for name, _ in table.parts),
        even=table.even,
        gaps=tuple(table.gaps),
        left_out=left_out,
        notes=_short(notes),
    )


def _arrange(
    table: axis.Table, passed: Pass, rule: Rule | Literal[""], period_s: float | None, dated: bool, keep_rows: bool
) -> None:
    """Make the rows samples: in the order of time, one a period, steps in the place of counts."""
    if table.times_s is not None and not dated and not keep_rows:
        axis.begin_anew(table)
    axis.order(table, keep_rows)
    axis.period(table, period_s, bool(rule), keep_rows)
    if rule:
        axis.resample(table, rule, table.period_s)
    elif not keep_rows:
        axis.fill(table)
    axis.pause(table)
    moduli = dict(parse_difference(one, passed.plan.names) for one in passed.plan.layout.difference)
    axis.difference(table, {j: moduli[name] for j, name in enumerate(table.names) if name in moduli})


def _columns(passed: Pass, sensors: list[str], every: dict[str, int]) -> tuple[Column, ...]:
    plan = passed.plan
    found = {plan.names[i]: column for i, column in passed.numbers.items()}
    units = {plan.names[i]: unit for i, unit in plan.suffixes} | plan.found.units
    return tuple(
        Column(name, units.get(name, ""), found[name].largest, found[name].least_step, every.get(name, 1))
        for name in sensors
    )


def _refuse_none(path: Path, passed: Pass) -> None:
    plan, picked = passed.plan, passed.plan.roles.picked
    if picked is not None and passed.passed_over:
        raise RecordingError(f"{path}: no row of --group {plan.names[picked[0]]}={picked[1]}; name one of that column")
    raise RecordingError(f"{path}: a header but no rows; a recording needs at least one sample")


def _table(path: Path, passed: Pass, names: list[str], times: np.ndarray | None, notes: list[str]) -> axis.Table:
    """The rows with the sensors only, which the pass gives away."""
    plan, roles = passed.plan, passed.plan.roles
    values, places = passed.values.values(), [j for j, i in enumerate(passed.numbers) if plan.names[i] in names]
    if len(places) < values.shape[1]:
        values = values[:, places]
    table = axis.Table(
        str(path),
        tuple(names),
        values,
        passed.lines.values(),
        {names.index(name): kept.values() for i, kept in passed.exact.items() if (name := plan.names[i]) in names},
        times,
        passed.labels.values() if roles.label is not None else None,
        passed.on.values() if roles.only else None,
        parts=[("", np.arange(passed.rows))],
        notes=notes,
    )
    del passed.values
    if roles.entity is not None:
        codes, machines = passed.words[roles.entity].values(), passed.words[roles.entity].names()
        each = plan.layout.group and roles.picked is None
        table.parts = (axis.as_groups if each else axis.as_runs)(codes, machines)
    return table


def _is_dated(times: np.ndarray) -> bool:
    return bool(np.nanmedian(np.abs(times)) >= DATED_S)


def _is_time_of_day(times: np.ndarray) -> bool:
    """Whether times without a date begin with the day, or rather with the recording."""
    return len(times) > 1 and times[0] >= 60 and bool(times[0] > np.median(np.abs(np.diff(times))))


def _about_lines(path: Path, passed: Pass) -> list[str]:
    """Notes of lines that are no rows; refused where they are many."""
    bad, remarks, rows = passed.bad, passed.remarks, passed.rows
    if bad.count and (bad.count >= max(rows, 1) or bad.count > max(BAD_LINES, BAD_SHARE * rows)):
        other = "it has other cells than the header, or no numbers"
        raise RecordingError(
            f"{path}: line {bad.numbers[0]}: '{bad.words}' is no row, as are {bad.count} of {rows + bad.count} lines: "
            f"{'its time or its numbers cannot be read' if passed.clocks else other}; mend the file, or say how to "
            "read it with --time-format or --layout"
        )
    last = int(passed.lines.values()[-1]) if rows else 0
    between = sum(number < last for number in remarks.numbers)
    if between > max(BAD_LINES, REMARKS_SHARE * rows) or (remarks.count and not rows):
        raise RecordingError(
            f"{path}: line {remarks.numbers[0]}: '{remarks.words}' is no row, as are {between} more lines "
            f"among {rows} rows: it has a single cell; leave such lines out, or give another separator in a layout"
        )
    told = (
        (remarks, f"a remark, left out: '{remarks.words}'"),
        (bad, f"no row, left out: '{bad.words}'"),
        (passed.torn, f"the last line is torn, left out: '{passed.torn.words}'"),
        (passed.again, "the header again, left out"),
        (passed.short, "fewer cells than the header, taken as missing at the end"),
    )
    notes = [f"line {lines.where}: {words}" for lines, words in told if lines.count]
    late = [name for name in passed.late if not ("." in name and name.rpartition(".")[2] in passed.plan.names)]
    if late:
        notes.append(f"names that begin late are left out: {shorten(late)}")
    return notes


def _times(passed: Pass, notes: list[str]) -> tuple[str, np.ndarray | None]:
    """The format of the times that fits best, and float64 (T,) seconds; None where there is no time."""
    found = {one: passed.times[one].values() for one in passed.clocks}
    if not found:
        return NONE, None
    fits = {one: _regular(times) for one, times in found.items()} if len(found) > 1 else dict.fromkeys(found)
    best = max(found, key=lambda one: fits[one] or ())  # of equals, the first
    same = (one for one in found if fits[one] == fits[best] and not np.array_equal(found[one], found[best]))
    if (other := next(same, None)) and not other.startswith("%m."):  # between dots nobody writes the month first
        notes.append(f"times are read as {best}, and could be {other}; --time-format '{other}' reads them so")
    if count := passed.clocks[best].set_back:
        notes.append(
            f"the clock was set back by an hour{f' {count} times' * (count > 1)}: time counts on; --timezone tells its "
            "zone"
        )
    return best, found[best]


def _regular(times: np.ndarray) -> tuple[bool, float]:
    """How well times run: in order, and in even steps."""
    ahead = np.diff(times)
    if not len(ahead):
        return True, 1.0
    running = bool((ahead >= 0).all() or (ahead <= 0).all())
    ahead = np.abs(ahead) if running else np.diff(np.sort(times))
    middle = float(np.median(ahead))
    return running, round(float((np.abs(ahead - middle) <= middle / 2).mean()), 2)


def _refuse_machines(passed: Pass, table: axis.Table) -> None:
    """Refuse rows of several machines that take turns, or whose times repeat; a column tells them apart."""
    times = table.seconds()
    running = _runs(times)
    for name, codes, machines in _namings(passed, table, running):
        apart = all(_runs(times[codes == code]) for code in range(len(machines)))
        turns = len(times) > 1 and float((np.diff(codes) != 0).mean()) >= 0.4
        if apart and (not running or turns) and len(times) > 2 * len(machines):
            first = machines[int(np.bincount(codes[codes >= 0]).argmax())]  # the others may be of another kind
            raise RecordingError(
                f"{table.source}: rows of {len(machines)} machines, told apart by '{name}' ({shorten(machines[:4])}"
                f"{' …' * (len(machines) > 4)}); pass --group {quote(f'{name}={first}')} for one, or --group "
                f"{quote(name)} for all"
            )


def _runs(times: np.ndarray) -> bool:
    """Whether time runs on, or back, with every row."""
    ahead = np.diff(times)
    return bool((ahead > 0).all() or (ahead < 0).all())


def _namings(passed: Pass, table: axis.Table, running: bool) -> Iterator[tuple[str, np.ndarray, list[str]]]:
    """Columns that may name machines: words, or where times repeat whole numbers, of which there are few."""
    plan = passed.plan
    for i, words in passed.words.items():
        if i in plan.words and not words.many and 2 <= len(words.codes) <= FEW:
            yield plan.names[i], words.values(), words.names()
    for j, name in enumerate(table.names if not running else ()):
        found, codes = np.unique(table.values[:, j], return_inverse=True)
        if 2 <= len(found) <= FEW and (found == np.round(found)).all():
            yield name, codes, [f"{number:g}" for number in found]


def _complete(
    passed: Pass, table: axis.Table, time_format: str, rule: Rule | Literal[""], sensors: list[str]
) -> Layout:
    """The layout, as far as a device needs it."""
    layout = passed.plan.layout
    words = [word for column in passed.numbers.values() for word, _ in column.words.most_common(FEW)]
    return replace(
        layout,
        time_format=time_format,
        sort=layout.sort or table.sorted,
        gaps=table.times_s is not None and table.even >= axis.EVEN and not rule,
        merge=layout.merge or (table.merged and layout.form != "table"),
        missing=tuple(word[:200] for word in dict.fromkeys([*layout.missing, *words]))[:FEW],
        sensors=tuple(sensors),
        resample=rule,
    )


def _short(notes: list[str]) -> list[str]:
    """Notes that a person still reads."""
    notes = [note if len(note) <= 400 else f"{note[:399]}…" for note in dict.fromkeys(notes)]
    kept: list[str] = []
    size = 0
    for i, note in enumerate(notes):
        size += len(note) + 1
        if size > MAX_NOTES - 40:
            return [*kept, f"and {len(notes) - i} more"]
        kept.append(note)
    return kept
