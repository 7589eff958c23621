"""Which columns are sensors after all: those of numbers, of which enough is there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgekd.data.gaps import held_words, longest_run, too_many
from edgekd.data.request import Request, shorten
from edgekd.data.table.axis import Table
from edgekd.data.table.columns import chosen, is_counter, plain
from edgekd.data.table.rows import Pass
from edgekd.runtime.errors import RecordingError
from edgekd.runtime.json_fields import shown
from edgekd.runtime.sources.difference import parse as parse_difference

EVERY = 100
"""A sensor that says something every so many samples is held between."""


def sensors_of(request: Request, passed: Pass) -> tuple[list[str], dict[str, str]]:
    """Names of the columns that are sensors, and why the others are none.

    Raises RecordingError where none is, or one that was asked for is not.
    """
    plan = passed.plan
    left_out = dict(plan.roles.left_out)
    wanted = chosen(request, plan.layout, [plan.names[i] for i in plan.roles.sensors if plan.names[i]])
    found = []
    for i in plan.roles.sensors:
        name = plan.names[i]
        if wanted and name not in wanted:
            continue
        why = _why_none(passed, i, bool(wanted))
        if not why:
            found.append(name)
        elif wanted:
            raise RecordingError(f"{request.path}: column '{name}' holds {why}, not numbers; leave it out of --sensors")
        elif name:
            left_out[name] = why
        elif passed.numbers[i].count if i in passed.numbers else True:
            left_out[f"column {i + 1}"] = why
    if not found:
        raise RecordingError(
            f"{request.path}: no sensor columns, only {in_words(left_out)}; a --layout can give another separator"
        )
    return found, left_out


def _why_none(passed: Pass, i: int, wanted: bool) -> str:
    """Why a column is no sensor; "" where it is one. wanted: numbers are enough."""
    plan, name = passed.plan, passed.plan.names[i]
    if not name:
        return "it has no name"
    column = passed.numbers.get(i)
    if column is None:
        said = next((word for word in passed.words[i].names() if word), None)
        return "it is empty" if said is None else f"words, such as '{shown(said, 30)}'"
    if wanted:
        return ""
    if not column.count:
        return "it is empty"
    if plain(name) in ("unnamed:_0", "__index_level_0__"):
        return "it is a row number"
    counts = is_counter("" if i == 0 and plan.found.unnamed else name, column.ones, column.steps)
    return "it counts the rows" if counts else ""


def in_words(left_out: dict[str, str]) -> str:
    """Columns that are no sensors, and why."""
    return shorten([f"{name} ({why})" for name, why in left_out.items()]) or "none"


def whole_enough(
    request: Request, table: Table, left_out: dict[str, str], wanted: bool
) -> tuple[list[int], dict[str, int]]:
    """Sensors of which enough is there, and how often those say something that speak more rarely than the others.

    Raises RecordingError for another where sensors were asked for; else `left_out` says why.
    """
    kept, every = [], {}
    for j, name in enumerate(table.names):
        missing = np.isnan(table.values[:, j])
        total = int(missing.sum())
        if not total:
            kept.append(j)
            continue
        start, end = longest_run(missing, table.bounds)
        dead = next(((a, b) for a, b in table.bounds if missing[a:b].all()), None)
        if dead is None and not too_many(missing, end - start):
            kept.append(j)
            continue
        if dead is None and (k := _beat(missing, table.bounds)):
            kept.append(j)
            every[name] = k
            continue
        why = f"no value in {total} of {len(missing)} samples, the longest run from {table.span(start, end)}"
        if dead is not None and total < len(missing):
            why = f"no value at all from {table.span(*dead)}"
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


def tell_missing(table: Table, names: Sequence[str], every: dict[str, int], passed: Pass) -> None:
    """Notes of missing values, and of the words that said so."""
    told = []
    counts = {parse_difference(one, passed.plan.names)[0] for one in passed.plan.layout.difference}
    for name, column in zip(names, np.isnan(table.values).T):
        total = int(column.sum()) - (int(column[table.starts].sum()) if name in counts else 0)
        if total > 0 and name not in every:
            told.append((name, total, *longest_run(column, table.bounds)))
    words = _words_of(passed, names)
    if len(told) <= 3:
        for name, total, start, end in told:
            said = f"; words for it: {words[name]}" if words.get(name) else ""
            table.notes.append(held_words(name, total, end - start, table.where(start)) + said)
    else:
        listed = shorten([f"{name} ({total})" for name, total, _, _ in told])
        said = ", ".join(dict.fromkeys(", ".join(words.values()).split(", ")))[:200]
        table.notes.append(
            f"missing values are held from the last good one: {listed}{f'; words for it: {said}' * bool(said)}"
        )


def _words_of(passed: Pass, names: Sequence[str]) -> dict[str, str]:
    found = {}
    plan = passed.plan
    for i, column in passed.numbers.items():
        said = column.said + column.words
        if said and plan.names[i] in names:
            found[plan.names[i]] = ", ".join(f"'{shown(word, 24)}'" for word, _ in said.most_common(3))
    return found


def tell_left_out(table: Table, left_out: dict[str, str]) -> None:
    """Notes of the columns that are no sensors."""
    if len(left_out) > 3:
        table.notes.append(f"left out: {in_words(left_out)}")
        return
    for name, why in left_out.items():
        column = name if name.startswith("column ") else f"column '{name}'"
        table.notes.append(f"{column} left out: {why}")
