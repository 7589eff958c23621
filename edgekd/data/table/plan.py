"""What the first rows of a file say of all of them: the role and the kind of each column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgekd.data.request import Request
from edgekd.data.table.columns import NONE, Roles, find_roles
from edgekd.data.table.head import Line
from edgekd.data.table.numbers import common_suffix, style_of, suffix_of
from edgekd.data.table.text import Found, cells_in
from edgekd.data.table.times import formats_of
from edgekd.runtime.errors import RecordingError, UsageError
from edgekd.runtime.json_fields import shown
from edgekd.runtime.layout import NUMBERED, Layout
from edgekd.runtime.sources import NoSample
from edgekd.runtime.sources.cells import MISSING, SWITCH
from edgekd.runtime.sources.difference import parse as parse_difference
from edgekd.runtime.sources.lines import cells_of

WORDS_OF_TIME = ("iso", "elapsed", *NUMBERED)


@dataclass(frozen=True)
class Plan:
    """What a pass goes by."""

    found: Found
    layout: Layout
    names: tuple[str, ...]
    roles: Roles
    formats: tuple[str, ...] = ()
    """Time formats that may be the one, the likelier first."""
    switches: frozenset[int] = frozenset()
    words: frozenset[int] = frozenset()
    """Columns that are no numbers."""
    suffixes: tuple[tuple[int, str], ...] = ()
    """Units behind the numbers of a column."""
    exact: frozenset[int] = frozenset()
    """Columns that are kept in float64."""


def first_plan(request: Request, told: Layout, found: Found, head: Sequence[Line], ignore: Sequence[str]) -> Plan:
    """The plan that the beginning of a file makes."""
    lines = [line for line in head if line.number > found.first]
    if found.layout.form != "table":
        return plan_of(request, told, found, *_named(request.path, lines, found.layout), ignore)
    width = len(found.names)
    rows, numbers = [], []
    for line in lines:
        cells = cells_in(line.text, found.layout.separator)
        if (len(cells) > 1 or width == 1) and tuple(cells) != found.header:
            rows.append((cells + [""] * width)[:width])
            numbers.append(line.number)
    return plan_of(request, told, found, found.names, rows, ignore, numbers)


def plan_of(
    request: Request,
    told: Layout,
    found: Found,
    names: tuple[str, ...],
    rows: Sequence[Sequence[Any]],
    ignore: Sequence[str] = (),
    lines: Sequence[int] = (),
) -> Plan:
    """The plan that these rows make. lines: their numbers, for messages."""
    if not rows:
        raise RecordingError(f"{request.path}: a header but no rows; a recording needs at least one sample")
    columns = [[str(cell).strip() for row in rows if (cell := row[i]) is not None] for i in range(len(names))]
    said = [[cell for cell in column if cell.lower() not in MISSING] for column in columns]
    roles = find_roles(request, told, names, said, ignore)
    formats = _formats(request, told, names, roles, rows, lines)
    numeric = roles.sensors if roles.value is None else (roles.value,)
    style = style_of(cell for i in numeric for cell in said[i])
    thousands = told.thousands or (style.thousands if style.thousands != told.decimal else "")
    kinds = {i: _kind(said[i]) for i in roles.sensors}
    suffixed = [
        *(i for i in roles.sensors if kinds[i] == "numbers"),
        *((roles.value,) if roles.value is not None else ()),
    ]
    suffixes = {i: suffix for i in suffixed if (suffix := common_suffix(said[i]))}
    layout = replace(
        found.layout,
        decimal=told.decimal or style.decimal,
        thousands=thousands,
        time=tuple(names[i] for i in roles.time),
        suffixes=told.suffixes or tuple(sorted({*suffixes.values()})),
        tag="" if roles.tag is None else names[roles.tag],
        value="" if roles.value is None else names[roles.value],
    )
    if style.guessed and not told.decimal:
        note = (
            f"'{shown(style.guessed, 40)}' is read with a decimal comma; a layout with thousands = \",\" reads it "
            "otherwise"
        )
        found = replace(found, notes=(*found.notes, note))
    counts = {parse_difference(one, names)[0] for one in told.difference}
    return Plan(
        found,
        layout,
        names,
        roles,
        formats,
        switches=frozenset(i for i in kinds if kinds[i] == "switch"),
        words=frozenset(i for i in kinds if kinds[i] == "words"),
        suffixes=tuple(suffixes.items()),
        exact=frozenset(i for i in roles.sensors if names[i] in counts),
    )


def _kind(cells: Sequence[str]) -> str:
    """What a column of such cells holds: a "switch", "numbers" or "words"."""
    sides = [cell for cell in cells if cell.lower() in SWITCH]
    if sides and all(cell.lower() in SWITCH or cell in ("0", "1") for cell in cells):
        return "switch"
    numbers = sum(suffix_of(cell) is not None for cell in cells)
    return "words" if 2 * numbers < len(cells) else "numbers"


def _named(path: Path, lines: Sequence[Line], layout: Layout) -> tuple[tuple[str, ...], list[list[Any]]]:
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
    request: Request,
    told: Layout,
    names: Sequence[str],
    roles: Roles,
    rows: Sequence[Sequence[Any]],
    lines: Sequence[int],
) -> tuple[str, ...]:
    """Formats that the times may have, the likelier first; () where there is no time."""
    if not roles.time or told.time_format == NONE:
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


def named_cells(line: str, layout: Layout) -> dict[str, Any]:
    """Names and values of a line that names its own.

    Raises NoSample where it has none.
    """
    cells = cells_of(line, layout, lambda found: True)
    if isinstance(cells, list):
        return {f"s{i}": cell for i, cell in enumerate(cells, 1)}
    return cells
