"""Rows that each say one value of one sensor, made wide: a column for each tag, a row for each time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgekd.data.request import Request
from edgekd.data.table.rows import Pass
from edgekd.runtime.errors import RecordingError


def wide(request: Request, passed: Pass) -> Pass:
    """The same pass with a column for each tag. Rows keep the order in which their times came first.

    Raises RecordingError where there is no time, or rows of several machines cannot be told apart.
    """
    plan, roles = passed.plan, passed.plan.roles
    assert roles.tag is not None and roles.value is not None
    if not passed.clocks:
        raise RecordingError(f"{request.path}: rows of one value each need a time; name its column with --time-column")
    codes, tags = passed.words[roles.tag].values(), passed.words[roles.tag].names()
    values = passed.exact[roles.value].values()
    groups = passed.words[roles.entity].values() if roles.entity is not None else np.zeros(len(codes), np.int32)
    first_format = next(iter(passed.times))
    times = {one: found.values() for one, found in passed.times.items()}
    key = np.stack([groups.astype(np.float64), times[first_format]], 1)
    _, first, row = np.unique(key, axis=0, return_index=True, return_inverse=True)
    row = row.reshape(-1)
    twice = len(codes) - len(np.unique(row.astype(np.int64) * len(tags) + codes))
    if twice > 0.01 * len(codes):
        raise RecordingError(
            f"{request.path}: {twice} of {len(codes)} rows have the time and the tag of another row; tell machines "
            "apart with --group COLUMN=VALUE"
        )
    steady = bool((np.diff(times[first_format][first]) >= 0).all())
    place = {one: found[first] for one, found in times.items()}
    lines = passed.lines.values()[first]
    order = np.argsort(first, kind="stable") if not steady else np.arange(len(first))
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    names = tuple(tag for tag in tags if tag)
    shape = Pass(
        replace(
            plan,
            names=(*names, *(("entity",) if roles.entity is not None else ())),
            roles=replace(
                roles,
                sensors=tuple(range(len(names))),
                tag=None,
                value=None,
                entity=len(names) if roles.entity is not None else None,
            ),
            words=frozenset(),
            switches=frozenset(),
            suffixes=(),
        )
    )
    made: dict[int, tuple[np.ndarray, list[tuple[int, str]]]] = {}
    for i, tag in enumerate(names):
        mine = codes == tags.index(tag)
        column = np.full(len(first), np.nan)
        column[back[row[mine]][::-1]] = values[mine][::-1]  # the first of those that are there twice
        made[i] = (column, [])
    shape.add_numbers(made, len(first))
    value, shown = passed.numbers[roles.value], shape.numbers[0]
    shown.said, shown.words = value.said, value.words
    if roles.entity is not None:
        kinds = passed.words[roles.entity].names()
        shape.words[len(names)].add([kinds[code] for code in groups[first][order]])
    for one, found in place.items():
        shape.times[one].add(found[order])
    shape.clocks = passed.clocks
    shape.lines.add(lines[order])
    for name in ("labels", "on"):
        said = getattr(passed, name).values()
        if len(said):
            getattr(shape, name).add(said[first][order])
    shape.rows = len(first)
    return shape
