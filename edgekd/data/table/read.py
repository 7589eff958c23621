"""A file to a `Reading`: find the layout, read by it, and where the whole file says otherwise, read again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import Any, Literal

import numpy as np

from edgekd.data.gaps import MAX_RUN, MAX_SHARE, true_runs
from edgekd.data.reading import Column, Reading
from edgekd.data.request import Request, shorten
from edgekd.data.table import axis, text
from edgekd.data.table.columns import (
    Roles,
    chosen,
    find_roles,
    is_counter,
    plain,
    require_known,
)
from edgekd.data.table.long import wide
from edgekd.data.table.numbers import common_suffix, style_of, suffix_of
from edgekd.data.table.rows import NotUtf8, Pass, Plan, named_cells, read_rows
from edgekd.data.table.times import formats_of, has_date
from edgekd.runtime.duration import seconds_in
from edgekd.runtime.errors import RecordingError, UsageError
from edgekd.runtime.json_fields import shown
from edgekd.runtime.layout import NUMBERED, PLAIN, RULES, Layout, Rule
from edgekd.runtime.sources import NoSample
from edgekd.runtime.sources.cells import MISSING, SWITCH
from edgekd.runtime.sources.difference import parse as parse_difference
from edgekd.runtime.sources.time_labels import UNITS

PASSES = 6
BAD_SHARE, BAD_LINES = 0.01, 3
"""Lines that may be no rows: this share of them, or so many."""
REMARKS_SHARE = 0.1
"""Lines of a single cell among rows of several; after the last row there may be any number."""
DATED_S = 3e8  # labels of seconds since 1970 that are all before 1979 are seconds since something else
SEASON_S = 300 * 86400.0
"""Clocks are set back once a year."""
FEW = 64
"""Names of machines, or states, that are told apart."""
EVERY = 100
"""A sensor that says something every so many samples is held between."""
WORDS_OF_TIME = ("iso", "elapsed", *NUMBERED)
MAX_NOTES = 1400
"""Characters of all notes."""


def read(request: Request, ignore: Sequence[str] = (), keep_rows: bool = False) -> Reading:
    """What a file holds. ignore: names, in lower case, of columns that are no sensors. keep_rows: of a collection whose
    protocol counts rows: none is filled in, or dropped.

    Raises RecordingError in one line: what is wrong, where, and the option that mends it.
    """
    told, rule, period_s = told_of(request)
    encoding, head, _ = text.head_of(request.path, told.encoding)
    for _ in range(PASSES):
        found = text.find(request.path, head, told, encoding)
        plan = _plan(request, told, found, head, ignore)
        for _ in range(PASSES):
            try:
                passed = read_rows(request.path, plan)
            except NotUtf8 as error:
                encoding = text.encoding_of(error.args[0])
                encoding, head, _ = text.head_of(request.path, encoding)
                break
            except RecordingError as error:
                raise RecordingError(_with_path(request.path, str(error))) from error
            better = _revised(plan, passed)
            if better is None:
                return reading_of(request, plan, passed, rule, period_s, keep_rows)
            plan = better
        else:
            break
    raise RecordingError(f"{request.path}: its columns change their kind; say with --sensors which are wanted")


def _with_path(path: Path, words: str) -> str:
    return words if words.startswith(str(path)) else f"{path}: {words}"


def told_of(request: Request) -> tuple[Layout, Rule | Literal[""], float | None]:
    """What is known of the layout, the rule to resample by ("" for none), and the period that was asked for."""
    told = request.layout or PLAIN
    if request.like is not None and request.layout is None:
        told = replace(
            request.like.without_text(), time=(), time_format="", tag="", value="", suffixes=(), gaps=False, merge=False
        )
        told = replace(told, checksum=False, sequence="", sequence_wraps_at=0)
    given: dict[str, Any] = {
        "missing": request.missing, "difference": request.difference, "only": request.only, "group": request.group,
        "timezone": request.timezone, "time_format": request.time_format,
    }  # fmt: skip
    told = replace(told, **{name: value for name, value in given.items() if value})
    rule, period_s = told.resample, request.period_s
    if request.resample:
        word, _, length = request.resample.rpartition(":")
        if length in RULES:
            word, length = length, ""
        rule = "last" if word == "last" else "mean"
        if word not in RULES:
            raise UsageError(f"--resample {request.resample}: write mean, last, a length of time, or mean:60s")
        if length:
            made_s = seconds_in(length)
            if period_s is not None and period_s != made_s:
                raise UsageError(f"--resample {request.resample} and --period-s {period_s:g} are two periods; give one")
            period_s = made_s
            if period_s <= 0:
                raise UsageError(f"--resample {request.resample}: a period is longer than nothing")
    return replace(told, resample=""), rule, period_s


def _plan(request: Request, told: Layout, found: text.Found, head: Sequence[text.Line], ignore: Sequence[str]) -> Plan:
    """What the beginning of a file says of all of it."""
    layout = found.layout
    lines = [line for line in head if line.number > found.first]
    if layout.form != "table":
        return plan_of(request, told, found, *_named(request.path, lines, layout), ignore)
    width = len(found.names)
    rows: list[list[Any]] = []
    at: list[int] = []
    for line in lines:
        cells = text.cells_in(line.text, layout.separator)
        if (len(cells) > 1 or width == 1) and tuple(cells) != found.header:
            rows.append((cells + [""] * width)[:width])
            at.append(line.number)
    return plan_of(request, told, found, found.names, rows, ignore, at)


def plan_of(
    request: Request,
    told: Layout,
    found: text.Found,
    names: tuple[str, ...],
    rows: list[list[Any]],
    ignore: Sequence[str] = (),
    lines: Sequence[int] = (),
) -> Plan:
    """What the first rows say of all of them. lines: their numbers, for messages."""
    layout = found.layout
    if not rows:
        raise RecordingError(f"{request.path}: a header but no rows; a recording needs at least one sample")
    roles = find_roles(request, told, names, rows, ignore)
    columns = [[str(cell).strip() for row in rows if (cell := row[i]) is not None] for i in range(len(names))]
    said = [[cell for cell in column if cell.lower() not in MISSING] for column in columns]
    formats = _formats(request, told, names, roles, rows, lines)
    kept = roles.sensors if roles.tag is None else (roles.value,)
    pool = [cell for i in kept if i is not None for cell in said[i]]
    style = style_of(pool)
    decimal, thousands = told.decimal or style.decimal, told.thousands or style.thousands
    if told.decimal and not told.thousands:
        thousands = style.thousands if style.thousands != told.decimal else ""
    switches, words, suffixes = set(), set(), []
    for i in roles.sensors:
        sides = sum(cell.lower() in SWITCH for cell in said[i])
        numbers = sum(suffix_of(cell) is not None for cell in said[i])
        if sides and all(cell.lower() in SWITCH or cell in ("0", "1") for cell in said[i]):
            switches.add(i)
        elif 2 * numbers < len(said[i]):
            words.add(i)
        elif suffix := common_suffix(Counter(cell for cell in said[i] if suffix_of(cell))):
            suffixes.append((i, suffix))
    if roles.value is not None and (suffix := common_suffix(Counter(said[roles.value]))):
        suffixes.append((roles.value, suffix))
    counts = {parse_difference(one, names)[0] for one in told.difference}
    layout = replace(
        layout,
        decimal=decimal,
        thousands=thousands,
        time=tuple(names[i] for i in roles.time),
        suffixes=told.suffixes or tuple(sorted({suffix for _, suffix in suffixes})),
        tag="" if roles.tag is None else names[roles.tag],
        value="" if roles.value is None else names[roles.value],
    )
    notes = found.notes
    if style.guessed and not told.decimal:
        notes = (
            *notes,
            f"'{shown(style.guessed, 40)}' is read with a decimal comma; a layout with thousands = \",\" reads "
            "it otherwise",
        )
    return Plan(
        replace(found, notes=notes),
        layout,
        names,
        roles,
        formats,
        frozenset(switches),
        frozenset(words),
        tuple(suffixes),
        frozenset(i for i in roles.sensors if names[i] in counts),
    )


def _named(path: Path, lines: Sequence[text.Line], layout: Layout) -> tuple[tuple[str, ...], list[list[Any]]]:
    """Names, and cells by them, of lines that name their own."""
    found = []
    for line in lines:
        try:
            found.append(named_cells(line.text, layout))
        except NoSample:
            continue
    names = list(dict.fromkeys(name for row in found for name in row))
    short = {
        name
        for name in names
        if (leaf := name.rpartition(".")[2]) != name
        and all(leaf in row and row[leaf] == row[name] for row in found if name in row)
    }
    names = [name for name in names if name not in short]
    if not names:
        raise RecordingError(f"{path}: no line holds values with names")
    return tuple(names), [[row.get(name) for name in names] for row in found]


def _formats(
    request: Request, told: Layout, names: Sequence[str], roles: Roles, rows: list[list[Any]], lines: Sequence[int]
) -> tuple[str, ...]:
    """Formats that the times may have, the likelier first; () where there is no time."""
    if not roles.time or told.time_format == "none":
        return ()
    if len(roles.time) > 2 and not told.time_format:
        return ("%Y %m %d %H %M %S"[: 3 * len(roles.time) - 1],)
    labels = [" ".join(str(row[i]).strip() for i in roles.time if row[i] is not None).strip() for row in rows]
    labels = [label for label in labels if label.lower() not in MISSING]
    column = " ".join(names[i] for i in roles.time)
    if told.time_format:
        if "%" not in told.time_format and told.time_format not in WORDS_OF_TIME:
            listed = ", ".join(WORDS_OF_TIME)
            raise UsageError(f"--time-format {told.time_format}: write it as %d.%m.%Y %H:%M:%S, or as one of {listed}")
        return (told.time_format,)
    if not labels:
        raise RecordingError(
            f"{request.path}: column '{shown(column, 40)}' says no time in its first rows; pass --time-column none to "
            "do without"
        )
    found = formats_of(labels, column)
    if not found:
        odd = next((label for label in labels if not formats_of([label])), labels[0])
        first = str(next(row for row in rows if str(row[roles.time[0]]).strip() in odd)[roles.time[0]])
        place = next((f" at line {n}" for n, row in zip(lines, rows) if str(row[roles.time[0]]) == first), "")
        raise RecordingError(
            f"{request.path}: time '{shown(odd, 40)}'{place} is not of a known form; say it with --time-format "
            "'%d.%m.%Y %H:%M:%S', or pass --time-column none to do without"
        )
    return tuple(found[:4])


def _revised(plan: Plan, passed: Pass) -> Plan | None:
    """A better plan, where the whole file says otherwise than its beginning; None where it does not."""
    switches, words, suffixes = set(plan.switches), set(plan.words), dict(plan.suffixes)
    odd: Counter[str] = Counter()
    for i, column in passed.numbers.items():
        said = column.words
        if i in switches and column.count and not column.binary:
            switches.discard(i)
        elif said:
            total = sum(said.values())
            numbers = sum(count for word, count in said.items() if suffix_of(word) is not None)
            sides = sum(count for word, count in said.items() if word.lower() in SWITCH)
            if sides == total and column.binary and i not in switches:
                switches.add(i)
            elif total - numbers > column.count + numbers and i != plan.roles.value:
                words.add(i)
            else:
                suffix = common_suffix(Counter({word: 1 for word in said if suffix_of(word)}))
                if suffix and i not in suffixes:
                    suffixes[i] = suffix
                odd.update({word: count for word, count in said.items() if suffix_of(word) == ""})
    for i, named in passed.words.items():
        if i in plan.words and not named.many:
            said = Counter({word: count for word, count in named.counts.items() if word.lower() not in MISSING})
            numbers = sum(count for word, count in said.items() if suffix_of(word) is not None)
            if 2 * numbers > sum(said.values()):
                words.discard(i)
    layout = plan.layout
    if odd:
        style = style_of(
            [
                *odd,
                *(
                    ["1.5"] * (layout.decimal == ".")
                    if any("." in word for word in odd) or layout.decimal == ","
                    else []
                ),
            ]
        )
        if (style.decimal, style.thousands) != (layout.decimal, layout.thousands):
            layout = replace(layout, decimal=style.decimal, thousands=style.thousands)
    if not layout.sort and any(_wrongly_counted_on(layout, one, passed) for one in passed.times):
        layout = replace(layout, sort=True)
    layout = replace(layout, suffixes=tuple(sorted({*layout.suffixes, *suffixes.values()})))
    better = replace(
        plan,
        layout=layout,
        switches=frozenset(switches - words),
        words=frozenset(words),
        suffixes=tuple(sorted(suffixes.items())),
    )
    return None if better == plan else better


def _wrongly_counted_on(layout: Layout, one: str, passed: Pass) -> bool:
    """Whether hours or days were added to times that come in no order."""
    ahead = np.diff(passed.times[one].values())
    times = passed.times[one].values()
    if len(times) and passed.clocks[one].set_back > 1 + np.ptp(times) / SEASON_S:
        return True
    if passed.clocks[one].set_back or layout.timezone or one == "elapsed":
        return bool((ahead < 0).any()) or bool((ahead <= 0).mean() > 0.5)  # hours that go back all fall on one
    return False


def reading_of(
    request: Request, plan: Plan, passed: Pass, rule: Rule | Literal[""], period_s: float | None, keep_rows: bool
) -> Reading:
    """What a pass found, made into samples.

    Raises RecordingError where it cannot be.
    """
    path, roles = request.path, plan.roles
    notes = list(plan.found.notes)
    _tell_lines(path, passed, notes)
    if not passed.rows:
        if roles.picked is not None and passed.passed_over:
            raise RecordingError(
                f"{path}: no row of --group {plan.names[roles.picked[0]]}={roles.picked[1]}; name one of that column"
            )
        raise RecordingError(f"{path}: a header but no rows; a recording needs at least one sample")
    if roles.tag is not None:
        passed = wide(request, passed)
        plan, roles = passed.plan, passed.plan.roles
    require_known(request, plan.layout, plan.names)
    names, left_out = _sensors(request, plan, passed)  # in the order of the columns
    time_format, times = _times(plan, passed, notes)
    dated = times is not None and has_date(time_format) and (time_format not in UNITS or _is_dated(times))
    lines = passed.lines.values()
    columns = {plan.names[i]: column for i, column in passed.numbers.items()}
    moduli = dict(parse_difference(one, plan.names) for one in plan.layout.difference)
    values, places = passed.values.values(), [j for j, name in enumerate(columns) if name in names]
    if len(places) < len(columns):
        values = values[:, places]
    exact = {
        names.index(plan.names[i]): column.values() for i, column in passed.exact.items() if plan.names[i] in names
    }
    table = axis.Table(
        path.name,
        tuple(names),
        values,
        exact,
        times,
        passed.labels.values() if roles.label is not None else None,
        passed.on.values() if roles.only else None,
        notes=notes,
    )
    del values, passed.values
    each = roles.entity is not None and plan.layout.group != "" and roles.picked is None
    if roles.entity is not None:
        codes, machines = passed.words[roles.entity].values(), passed.words[roles.entity].names()
        table.parts = axis.as_groups(codes, machines) if each else axis.as_runs(codes, machines)
    else:
        table.parts = [("", np.arange(passed.rows))]
        if times is not None and roles.picked is None and not keep_rows:
            _refuse_machines(path, plan, passed, table)
    source = table.source
    table.source = str(path)
    if times is not None and not dated and not keep_rows:
        axis.begin_anew(table)
    axis.order(table, keep_rows)
    axis.period(table, period_s, bool(rule), keep_rows)
    if rule:
        axis.resample(table, rule, table.period_s)
    elif not keep_rows:
        axis.fill(table)
    axis.pause(table)
    axis.difference(table, {j: moduli[name] for j, name in enumerate(names) if name in moduli})
    if times is not None and not dated and table.times_s is not None:
        table.times_s = table.times_s - table.times_s[0]
        if time_format != "elapsed" or _is_time_of_day(times):
            notes.append("no date: times are taken as time of day, or as counted from the start")
    wanted = bool(request.sensors) or bool(plan.layout.sensors)
    kept, every = _whole_enough(request, table, names, left_out, lines, wanted)
    if len(kept) < len(names):
        table.values = np.ascontiguousarray(table.values[:, kept])
    _tell_missing(table, [names[j] for j in kept], every, passed, plan, lines, notes)
    if left_out and not wanted:
        _tell_left_out(left_out, notes)
    sensors = [names[j] for j in kept]
    if not sensors:
        longer = (
            ""
            if times is None
            else f", or pass --resample {axis.whole_period(np.diff(times), period_s or table.period_s)}"
        )
        raise RecordingError(f"{path}: no sensor columns are left ({_why(left_out)}); name some with --sensors{longer}")
    layout = _complete(plan, passed, table, time_format, rule, sensors, dated)
    units = {plan.names[i]: unit for i, unit in plan.suffixes} | plan.found.units
    return Reading(
        source,
        layout,
        tuple(
            Column(
                name,
                units.get(name, ""),
                columns[name].largest,
                0.0 if np.isinf(columns[name].least_step) else columns[name].least_step,
                every.get(name, 1),
            )
            for name in sensors
        ),
        table.values,
        table.period_s,
        table.times_s,
        dated,
        table.labels,
        tuple(table.starts),
        tuple(name for name, _ in table.parts),
        table.even,
        tuple(table.gaps),
        left_out,
        _short(notes),
    )


def _is_dated(times: np.ndarray) -> bool:
    return bool(np.nanmedian(np.abs(times)) >= DATED_S)


def _is_time_of_day(times: np.ndarray) -> bool:
    """Whether times without a date begin with the day, or rather with the recording."""
    return len(times) > 1 and times[0] >= 60 and bool(times[0] > np.median(np.abs(np.diff(times))))


def _tell_lines(path: Path, passed: Pass, notes: list[str]) -> None:
    """Notes of lines that are no rows; refused where they are many."""
    bad, rows = passed.bad, passed.rows
    if bad.count and (bad.count >= max(rows, 1) or bad.count > max(BAD_LINES, BAD_SHARE * rows)):
        wanted = (
            "its time or its numbers cannot be read"
            if passed.clocks
            else "it has other cells than the header, or no numbers"
        )
        raise RecordingError(
            f"{path}: line {bad.first}: '{bad.words}' is no row, as are {bad.count} of {rows + bad.count} lines: "
            f"{wanted}; mend the file, or say how to read it with --time-format or --layout"
        )
    last = int(passed.lines.values()[-1]) if rows else 0
    between = sum(number < last for number in passed.remarks.numbers)
    if between > max(BAD_LINES, REMARKS_SHARE * rows) or (passed.remarks.count and not rows):
        raise RecordingError(
            f"{path}: line {passed.remarks.first}: '{passed.remarks.words}' is no row, as are {between} more lines "
            f"among {rows} rows: it has a single cell; leave such lines out, or give another separator in a layout"
        )
    if passed.remarks.count:
        more = f", and {passed.remarks.count - 1} more" if passed.remarks.count > 1 else ""
        notes.append(f"line {passed.remarks.first}{more}: a remark, left out: '{passed.remarks.words}'")
    if bad.count:
        more = f", and {bad.count - 1} more" if bad.count > 1 else ""
        notes.append(f"line {bad.first}{more}: no row, left out: '{bad.words}'")
    if passed.torn.count:
        notes.append(f"line {passed.torn.first}: the last line is torn, left out: '{passed.torn.words}'")
    if passed.again.count:
        more = f" and {passed.again.count - 1} more" if passed.again.count > 1 else ""
        notes.append(f"line {passed.again.first}{more}: the header again, left out")
    if passed.short.count:
        more = f" and {passed.short.count - 1} more" if passed.short.count > 1 else ""
        notes.append(f"line {passed.short.first}{more}: fewer cells than the header, taken as missing at the end")
    late = [name for name in passed.late if not ("." in name and name.rpartition(".")[2] in passed.plan.names)]
    if late:
        notes.append(f"names that begin late are left out: {shorten(late)}")


def _sensors(request: Request, plan: Plan, passed: Pass) -> tuple[list[str], dict[str, str]]:
    """Names of the columns that are sensors, and why the others are none."""
    roles, names = plan.roles, plan.names
    left_out = dict(roles.left_out)
    wanted = chosen(request, plan.layout, [names[i] for i in roles.sensors if names[i]])
    found = []
    for i in roles.sensors:
        name = names[i]
        if wanted and name not in wanted:
            continue
        column = passed.numbers.get(i)
        if not name:
            if column is None or column.count:
                left_out[f"column {i + 1}"] = "it has no name"
            continue
        if column is None:
            words = passed.words[i]
            said = [word for word in words.names() if word]
            why = f"words, such as '{shown(said[0], 30)}'" if said else "it is empty"
            if wanted:
                raise RecordingError(
                    f"{request.path}: column '{name}' holds {why}, not numbers; leave it out of --sensors"
                )
            left_out[name] = why
        elif not column.count and not wanted:
            left_out[name] = "it is empty"
        elif not wanted and plain(name) in ("unnamed:_0", "__index_level_0__"):
            left_out[name] = "it is a row number"
        elif not wanted and is_counter("" if i == 0 and plan.found.unnamed else name, column.ones, column.steps):
            left_out[name] = "it counts the rows"
        else:
            found.append(name)
    if not found:
        raise RecordingError(f"{request.path}: no sensor columns, only {_why(left_out)}; add some")
    return found, left_out


def _why(left_out: dict[str, str]) -> str:
    return shorten([f"{name} ({why})" for name, why in left_out.items()]) or "none"


def _times(plan: Plan, passed: Pass, notes: list[str]) -> tuple[str, np.ndarray | None]:
    """The format of the times that fits best, and float64 (T,) seconds; None where there is no time."""
    found = {one: times.values() for one, times in passed.times.items()}
    if not found:
        return "none", None
    best = next(iter(found))
    if len(found) > 1:
        fits = {one: _regular(times) for one, times in found.items()}
        top = max(fits, key=lambda one: fits[one])
        if fits[top] > fits[best]:
            best = top
        same = (one for one in found if fits[one] == fits[best] and not np.array_equal(found[one], found[best]))
        if other := next(same, None):
            notes.append(f"times are read as {best}, and could be {other}; --time-format '{other}' reads them so")
    if passed.clocks[best].set_back:
        count = passed.clocks[best].set_back
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


def _refuse_machines(path: Path, plan: Plan, passed: Pass, table: axis.Table) -> None:
    """Refuse rows of several machines that take turns, or whose times repeat; a column tells them apart."""
    times = table.times_s
    assert times is not None
    ahead = np.diff(times)
    running = bool((ahead > 0).all() or (ahead < 0).all())
    for name, codes, machines in _namings(plan, passed, table, running):
        turns = float((np.diff(codes) != 0).mean()) if len(ahead) else 0.0
        own = [np.diff(times[codes == code]) for code in range(len(machines))]
        apart = all((steps > 0).all() or (steps < 0).all() for steps in own)
        if apart and (not running or turns >= 0.4) and len(times) > 2 * len(machines):
            first = machines[int(np.bincount(codes[codes >= 0]).argmax())]  # the others may be of another kind
            raise RecordingError(
                f"{path}: rows of {len(machines)} machines, told apart by '{name}' ({shorten(machines[:4])}"
                f"{' …' * (len(machines) > 4)}); pass --group {quote(f'{name}={first}')} for one, or --group "
                f"{quote(name)} for all"
            )


def _namings(plan: Plan, passed: Pass, table: axis.Table, running: bool) -> Iterator[tuple[str, np.ndarray, list[str]]]:
    """Columns that may name machines: words, or where times repeat whole numbers, of which there are few."""
    for i, words in passed.words.items():
        if i in plan.words and not words.many and 2 <= len(words.codes) <= FEW:
            yield plan.names[i], words.values(), words.names()
    for j, name in enumerate(table.names if not running else ()):
        found, codes = np.unique(table.values[:, j], return_inverse=True)
        if 2 <= len(found) <= FEW and (found == np.round(found)).all():
            yield name, codes, [f"{number:g}" for number in found]


def _whole_enough(
    request: Request, table: axis.Table, names: list[str], left_out: dict[str, str], lines: np.ndarray, wanted: bool
) -> tuple[list[int], dict[str, int]]:
    """Sensors of which enough is there, and how often those say something that speak more rarely than the others."""
    kept, every = [], {}
    bounds = list(zip(table.starts, [*table.starts[1:], len(table.values)]))
    for j, name in enumerate(names):
        missing = np.isnan(table.values[:, j])
        if not missing.any():
            kept.append(j)
            continue
        total = int(missing.sum())
        runs = [(a + x, a + y) for a, b in bounds for x, y in true_runs(missing[a:b])]
        a, b = max(runs, key=lambda run: run[1] - run[0])
        dead = next(((x, y) for x, y in bounds if missing[x:y].all()), None)
        if dead is None and b - a <= MAX_RUN and total <= max(1, MAX_SHARE * len(missing)):
            kept.append(j)
            continue
        if dead is None and (k := _beat(missing, bounds)):
            kept.append(j)
            every[name] = k
            continue
        run = f"{_where(table, lines, a)} to {_where(table, lines, b - 1)}"
        why = f"no value in {total} of {len(missing)} samples, the longest run from {run}"
        if dead is not None and total < len(missing):
            why = f"no value at all from {_where(table, lines, dead[0])} to {_where(table, lines, dead[1] - 1)}"
        if wanted:
            way = "cut these rows" if request.like is not None else "leave it out of --sensors"
            raise RecordingError(
                f"{table.source}: sensor '{name}' has {why}; {way}, or pass --resample with a longer period"
            )
        left_out[name] = why
    if every:
        listed = shorten([f"{name} (every {k} samples)" for name, k in every.items()])
        table.notes.append(f"held between its values: {listed}; --resample makes samples of a longer period")
    return kept, every


def _beat(missing: np.ndarray, bounds: Sequence[tuple[int, int]]) -> int:
    """Every how many samples a sensor says something; 0 where it does so irregularly, or too rarely."""
    apart = np.concatenate([np.diff(np.flatnonzero(~missing[a:b])) for a, b in bounds])
    edges = max(max(int(np.argmin(missing[a:b])), int(np.argmin(missing[a:b][::-1]))) for a, b in bounds)
    if len(apart) < 2:
        return 0
    k = int(np.median(apart))
    steady = (np.abs(apart - k) <= max(1, k // 4)).mean() >= 0.9
    return k if 2 <= k <= EVERY and steady and max(int(apart.max()), edges) <= EVERY else 0


def _where(table: axis.Table, lines: np.ndarray, sample: int) -> str:
    """Words for a sample: its line in the file."""
    row = sample if table.rows is None else int(table.rows[sample])
    return f"line {lines[row]}" if row >= 0 else f"sample {sample}"


def _tell_missing(
    table: axis.Table,
    names: list[str],
    every: dict[str, int],
    passed: Pass,
    plan: Plan,
    lines: np.ndarray,
    notes: list[str],
) -> None:
    """Notes of missing values, and of the words that said so."""
    told = []
    starts = table.starts
    bounds = list(zip(starts, [*starts[1:], len(table.values)]))
    moduli = {parse_difference(one, plan.names)[0] for one in plan.layout.difference}
    missing = np.isnan(table.values)
    for j, name in enumerate(names):
        if name in every or not missing[:, j].any():
            continue
        column = missing[:, j]
        total = int(column.sum()) - (sum(bool(column[a]) for a in starts) if name in moduli else 0)
        if total <= 0:
            continue
        a, b = max(
            ((s + x, s + y) for s, e in bounds for x, y in true_runs(column[s:e])), key=lambda run: run[1] - run[0]
        )
        told.append((name, total, b - a, a))
    words = _words_of(passed, plan, names)
    if len(told) <= 3:
        for name, total, longest, a in told:
            said = f"; words for it: {words[name]}" if words.get(name) else ""
            notes.append(
                f"sensor '{name}': {total} missing value{'s' * (total > 1)} held from the last good one "
                f"(longest run {longest}, at {_where(table, lines, a)}){said}"
            )
    else:
        listed = shorten([f"{name} ({total})" for name, total, _, _ in told])
        said = ", ".join(dict.fromkeys(", ".join(words.values()).split(", ")))[:200]
        notes.append(
            f"missing values are held from the last good one: {listed}{f'; words for it: {said}' * bool(said)}"
        )


def _words_of(passed: Pass, plan: Plan, names: Sequence[str]) -> dict[str, str]:
    found = {}
    for i, column in passed.numbers.items():
        said = column.said + column.words
        if said and plan.names[i] in names:
            found[plan.names[i]] = ", ".join(f"'{shown(word, 24)}'" for word, _ in said.most_common(3))
    return found


def _tell_left_out(left_out: dict[str, str], notes: list[str]) -> None:
    if len(left_out) <= 3:
        notes += [
            f"{name if name.startswith('column ') else f'column {chr(39)}{name}{chr(39)}'} left out: {why}"
            for name, why in left_out.items()
        ]
    else:
        notes.append(f"left out: {shorten([f'{name} ({why})' for name, why in left_out.items()])}")


def _complete(
    plan: Plan,
    passed: Pass,
    table: axis.Table,
    time_format: str,
    rule: Rule | Literal[""],
    sensors: list[str],
    dated: bool,
) -> Layout:
    """The layout, as far as a device needs it."""
    words = [word for column in passed.numbers.values() for word, _ in column.words.most_common(FEW)]
    missing = dict.fromkeys([*plan.layout.missing, *words])
    return replace(
        plan.layout,
        time_format=time_format,
        sort=plan.layout.sort or table.sorted,
        gaps=table.times_s is not None and table.even >= axis.EVEN and not rule,
        merge=plan.layout.merge or (table.merged and plan.layout.form != "table"),
        missing=tuple(word[:200] for word in missing)[:FEW],
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
