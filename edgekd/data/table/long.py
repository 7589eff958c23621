"""Rows that each say one value of one sensor, made wide: a column for each tag, a row for each time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgekd.data.table.columns import ENTITY_NAME
from edgekd.data.table.rows import Pass
from edgekd.runtime.errors import RecordingError


def wide(passed: Pass) -> Pass:
    """The same pass with a column for each tag. Rows keep the order in which their times came first.

    Raises RecordingError where there is no time, or rows of several machines cannot be told apart.
    """
    plan, roles = passed.plan, passed.plan.roles
    assert roles.tag is not None and roles.value is not None
    if not passed.clocks:
        raise RecordingError(f"{passed.path}: rows of one value each need a time; name its column with --time-column")
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
            f"{passed.path}: {twice} of {len(codes)} rows have the time and the tag of another row; tell machines "
            "apart with --group COLUMN=VALUE"
        )
    if (np.diff(times[first_format][first]) < 0).any():  # machines take turns: rows keep their order
        order = np.argsort(first)
        first, row = first[order], np.argsort(order)[row]
    names = tuple(tag for tag in tags if tag)
    entity = None if roles.entity is None else len(names)
    wide_roles = replace(roles, sensors=tuple(range(len(names))), tag=None, value=None, entity=entity)
    all_names = names if entity is None else (*names, ENTITY_NAME)
    none: frozenset[int] = frozenset()
    made = Pass(passed.path, replace(plan, names=all_names, roles=wide_roles, words=none, switches=none, suffixes=()))
    numbers = np.full((len(names), len(first)), np.nan)
    for i, name in enumerate(names):
        mine = np.flatnonzero(codes == tags.index(name))[::-1]  # the first of those that are there twice
        numbers[i, row[mine]] = values[mine]
    made.add_numbers({i: (column, []) for i, column in enumerate(numbers)}, len(first))
    value, shown = passed.numbers[roles.value], made.numbers[0]
    shown.said, shown.words = value.said, value.words
    if entity is not None and roles.entity is not None:
        kinds = passed.words[roles.entity].names()
        made.words[entity].add([kinds[code] for code in groups[first]])
    for one, found in times.items():
        made.times[one].add(found[first])
    made.clocks = passed.clocks
    made.lines.add(passed.lines.values()[first])
    for said, into in ((passed.labels, made.labels), (passed.on, made.on)):
        if len(said.values()):
            into.add(said.values()[first])
    made.rows = len(first)
    return made
