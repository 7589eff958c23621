"""How a file is written: form and separator, what stands above its rows, the names of its columns."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path

from edgekd.data.table.head import Line
from edgekd.data.table.numbers import suffix_of
from edgekd.data.table.times import is_label, since_1970
from edgekd.runtime.errors import RecordingError
from edgekd.runtime.layout import Layout
from edgekd.runtime.sources import NoSample
from edgekd.runtime.sources.cells import MISSING, SWITCH
from edgekd.runtime.sources.lines import NOISE, line_protocol, pairs, split

SEPARATORS = (";", "\t", "|", ",", " ")
COMMENTS = ("#", "//", "%")
_SEP_LINE = re.compile(r'"?sep=(.)"?', re.I)
_BASE = (
    r"(?:°\s?[CFKR]?|deg\s?[CFK]?|ohm|Ω|[munµμkMGTdchp]?(?:m|g|s|A|V|W|Hz|Pa|bar|J|N|Nm|l|L|Wh|VA|VAh|var|varh|S|F|H|T|"
    r"eV|mol|rad|B|dB|b|t|Ah|C|K|Vs|psi|lx|lm|cd|Bq|Sv)|%(?:\s?RH|\s?rel)?|rpm|RPM|[munµμ]?secs?|U|h|min|d|yr?|ppm|ppb|inch|in|ft|gal|"
    r"lbs?|mi|mph|psi[ag]?|barg|bara|mmHg|inHg|mH2O|VDC|VAC|kn|NTU|pH|Nm3|Nl|pcs|count|counts|lux|1|EUR|cfm|gpm|scfm|dBA|dBm|TS|RN)"
)
_UNIT = re.compile(
    rf"[\[(]?{_BASE}(?:[²³23]|\^?-?[1-4])?(?:\s?[/·*. ]\s?{_BASE}(?:[²³23]|\^?-?[1-4])?)*[\])]?|-+|n/?a|"
)
_NAMED_UNIT = re.compile(r"[\[(]([^\])]{1,15})[\])]\s*$|\s(°[CFK]|%)$")
_KIND = re.compile(
    "avg|smp|min|max|std|tot|mean|sum|sample|med|inst|raw|scaled|float|double|int|long|real|bool|string|number|text|"
    "boolean|integer|datetime",
    re.I,
)
"""What stands below a name that is no unit: how its values were made, or their type."""


@dataclass(frozen=True)
class Found:
    """How a file is written."""

    layout: Layout
    """Its fields of the text."""
    names: tuple[str, ...] = ()
    """Of a table's columns, in order; () where each line names its own."""
    header: tuple[str, ...] = ()
    """Cells of the line of names, which may come again; () where there is none."""
    first: int = 0
    """Lines before the first row."""
    units: dict[str, str] = field(default_factory=dict)
    unnamed: bool = False
    """Its names are made up: it has none."""
    notes: tuple[str, ...] = ()


def find(path: Path, head: Sequence[Line], told: Layout, encoding: str) -> Found:
    """How a file is written, from its first lines and what was told.

    Raises RecordingError where it holds no table.
    """
    notes = []
    if encoding.startswith(("cp", "iso")) and not told.encoding:
        notes.append(f"not UTF-8: read as {'Windows-1252' if encoding == 'cp1252' else encoding}")
    layout = replace(told, encoding=encoding, form=told.form or _form(head))
    if layout.form == "table" and head[0].text.strip()[:1] == "{":
        raise RecordingError(f"{path}: one JSON document; write each sample as an object of its own, one a line")
    found = _table(path, head, layout, notes) if layout.form == "table" else Found(layout)
    return replace(found, notes=tuple(notes))


def _form(head: Sequence[Line]) -> str:
    lines = [line.text.strip() for line in head]
    said = [line for line in lines[len(lines) // 3 :] if not line.startswith(COMMENTS)][:50] or lines[-1:]

    def most(holds: Callable[[str], bool]) -> bool:
        return sum(map(holds, said)) >= 0.9 * len(said)

    if most(lambda line: _is_json(line if line[:1] in "{[" else line[line.find("{") :])):
        return "json"
    if most(lambda line: "=" in line and line_protocol(line) is not None):
        return "line protocol"
    if most(lambda line: ("=" in line or ":" in line) and _is_pairs(line)):
        return "pairs" if most(lambda line: "=" in line) or _separated(head, "")[2] <= 0.3 else "table"
    return "table"


def _is_json(line: str) -> bool:
    try:
        return line[:1] in "{[" and isinstance(json.loads(line.rstrip(",")), (dict, list))
    except (ValueError, RecursionError):
        return False


def _is_pairs(line: str) -> bool:
    found = pairs(line)
    covered = 3 * len(found) >= len(re.split(r"[\s,;]+", line))
    named = covered and all(re.match(r"[^\W\d]", name) for name in found)
    return named and any(suffix_of(str(value)) is not None for value in found.values())


def number_or_time(cell: str) -> bool:
    """Whether a cell is a number, perhaps with a unit, or a time."""
    return suffix_of(cell) is not None or is_label(cell)


def _table(path: Path, head: Sequence[Line], layout: Layout, notes: list[str]) -> Found:
    """How a table is written; `notes` grows by what a user should know of it."""
    marks = [found[1] for line in head[:5] if (found := _sep_line(line))]
    comment = layout.comment or next((c for c in COMMENTS for line in head if line.text.startswith(c)), "")
    remarks = [line for line in head if comment and line.text.startswith(comment)]
    said = _joined([line for line in head if line not in remarks and not _sep_line(line)])
    if not said:
        raise RecordingError(f"{path}: nothing but comments; a recording needs a header and at least one row")
    separator, rows, _ = _separated(said, layout.separator or next((mark for mark in marks if mark in SEPARATORS), ""))
    layout = replace(layout, separator=separator, comment=comment)
    if layout.names:
        first = said[layout.skip].number - 1 if layout.skip < len(said) else 0
        return Found(layout, layout.names, first=first)
    width = max(_width(rows[len(rows) // 3 :]), _width(rows), key=lambda w: w > 1)
    at = _first_row(rows, width)
    if at is None:
        raise RecordingError(
            f"{path}: a header but no rows; a recording needs at least one sample"
            if len(rows) == 1
            else f"{path}: no rows of numbers are found in it; `edgekd look` with --layout says how a file is written"
        )
    first = said[at].number - 1
    block = _block(rows, at, width)
    if block:
        return _headed(path, layout, said[: at + 1], block, rows[at:], width, notes)
    above = [line for line in remarks if line.number <= first]  # gnuplot's way: the names are a comment
    names = cells_in(above[-1].text.removeprefix(comment).strip(), separator) if above else []
    unnamed = len(names) != width or any(map(number_or_time, names))
    if unnamed:
        names = _made_up(rows[at:], width)
        notes.append(f"no header: columns are named {listed(names)}; add a line of names, or give them in a layout")
    layout = replace(layout, names=tuple(names), skip=at)
    return Found(layout, layout.names, (), first, {} if unnamed else _units(names), unnamed)


def _sep_line(line: Line) -> re.Match[str] | None:
    """Excel's line that tells the separator."""
    return _SEP_LINE.fullmatch(line.text.strip(" \r"))


def listed(names: Sequence[str]) -> str:
    """The first four of them."""
    return ", ".join(names[:4]) + " …" * (len(names) > 4)


def _headed(
    path: Path,
    layout: Layout,
    lines: Sequence[Line],
    block: list[list[str]],
    rows: list[list[str]],
    width: int,
    notes: list[str],
) -> Found:
    """The names and units of a table that has some. lines: up to its first row. block: names, units and the like."""
    names, units, plain, note = _names(block)
    notes += [note] * bool(note)
    if len(names) == width - 1 and any(row[-1] for row in rows if len(row) == width):
        clocks = [i for i, name in enumerate(names) if "time" in name.lower() or "date" in name.lower()]
        if is_label(names[0]) or not all(is_label(rows[0][i + 1]) for i in clocks):
            raise RecordingError(
                f"{path}: line {lines[-1].number} has {width} cells, the header {len(names)} names; name each column, "
                f"or give another separator than '{layout.separator}' in a layout"
            )
        names, plain = ["", *names], False  # R's way: the row names have none
    plain = plain and all(line.count == 1 for line in lines[:-1])
    names = names[:width] + [""] * (width - len(names))
    again = [name for name, count in Counter(names).items() if name and count > 1]
    if again:
        names, plain = _unique(names), False
        notes.append(
            f"several columns are named {', '.join(again[:3])}: from the second on they are {again[0]}_2 and so on"
        )
    known = {**_units(names), **{name: unit for name, unit in zip(names, units) if unit and name}}
    if not plain:
        layout = replace(layout, names=tuple(names), skip=sum(line.count for line in lines[:-1]))
    return Found(layout, tuple(names), tuple(block[-1]) if plain else (), lines[-1].number - 1, known)


def _joined(lines: Sequence[Line]) -> list[Line]:
    """Lines with those that go on within quotes, as one."""
    found: list[Line] = []
    for line in lines:
        if found and found[-1].text.count('"') % 2 and found[-1].count < 8 and len(found) < 20:
            before = found.pop()
            line = Line(before.number, f"{before.text} {line.text}", line.number - before.number + 1)
        found.append(line)
    return found


def cells_in(text: str, separator: str) -> list[str]:
    """The cells of a table's line; the line itself where its quotes do not match."""
    try:
        return split(NOISE.sub("", text).strip(" "), separator)
    except NoSample:
        return [text]


def _separated(lines: Sequence[Line], told: str) -> tuple[str, list[list[str]], float]:
    """The separator, the cells of each line, and how well they make rows."""
    tried: dict[str, tuple[float, list[list[str]]]] = {}
    tabs = any("\t" in line.text.strip() for line in lines[-5:])  # blanks would split at them, too
    for separator in (told,) if told else SEPARATORS[: len(SEPARATORS) - tabs]:
        rows = [cells_in(line.text, separator) for line in lines]
        below = rows[min(len(rows) // 3, 30) :][:300]
        widths = Counter(map(len, below))
        width = _width(below)
        cells = [cell for row in below if len(row) == width for cell in row]
        telling = sum(cell.lower() in MISSING or cell.lower() in SWITCH or number_or_time(cell) for cell in cells)
        fits = (widths[width] + sum(count for w, count in widths.items() if 1 < w < width) / 2) / len(below)
        above = rows[: len(rows) - len(below) or 1]
        headed = any(width - 2 <= len(row) <= width and len(row) > 1 for row in above)
        well = (1.0 if headed else 0.7) * fits * (0.1 + telling / max(1, len(cells))) if width > 1 else 0.0
        tried[separator] = well, rows
    best = max(tried, key=lambda separator: tried[separator][0])
    if not told and tried[best][0] == 0.0:
        best = ","
    well, rows = tried[best]
    return best, rows, well


def _width(rows: Sequence[Sequence[str]]) -> int:
    """The usual number of cells; lines of one are remarks, or a footer, where others are no rarity."""
    widths = Counter(map(len, rows))
    several = Counter({width: count for width, count in widths.items() if width > 1})
    widths = several if several.total() >= 0.1 * len(rows) else widths
    return max(widths, key=lambda w: (widths[w], w))


def _first_row(rows: list[list[str]], width: int) -> int | None:
    """The first line that is a row: most cells are what those below in their columns are."""
    below = [row for row in rows if len(row) == width]
    kinds = list(map(_kind, zip(*(below[len(below) // 3 :] or rows[-1:]))))
    if not any(kinds):
        return None
    fitting = (i for i, row in enumerate(rows) if width <= 2 * len(row) <= 2 * width)
    return next((i for i in fitting if _is_row(rows[i], kinds, i == 0)), None)


def _kind(column: Sequence[str]) -> str:
    """What the cells of a column are: a "time", a "number", or something else, ""."""
    filled = [cell for cell in column if cell.lower() not in MISSING]
    if 2 * sum(map(is_label, filled)) > len(filled):
        return "time"
    return "number" if 2 * sum(suffix_of(cell) is not None for cell in filled) >= len(filled) > 0 else ""


def _is_row(row: list[str], kinds: Sequence[str], first: bool) -> bool:
    """Whether a line is one of rows of such columns, rather than one of their names. first: of the file."""
    asked = [(kind, cell) for kind, cell in zip(kinds, row) if kind]
    fits = [is_label(cell) if kind == "time" else suffix_of(cell) is not None for kind, cell in asked]
    empty = [cell.lower() in MISSING for _, cell in asked]
    times = [fit for (kind, _), fit in zip(asked, fits) if kind == "time"]
    if len(row) == len(kinds) and any(times):
        return True  # no header says a time
    if not first and "" not in row and all(empty) and len(asked) == len(row) == len(kinds):
        return True
    words = sum(not fit and not none for fit, none in zip(fits, empty))
    enough = 2 * sum(fits) >= sum(map(bool, kinds)) or 2 * sum(empty) >= len(row)
    return any(fits) and enough and 2 * words < len(asked) and all(times)


def _block(rows: list[list[str]], at: int, width: int) -> list[list[str]]:
    """The lines of names, units and the like directly above the first row."""
    block: list[list[str]] = []
    for row in reversed(rows[:at]):
        filled = row[: 1 + max((i for i, cell in enumerate(row) if cell), default=-1)]
        if filled and (len(row) == width or len(row) == width - 1 > 1):
            block.insert(0, row)
        elif block:
            break
        elif width <= 2 * len(filled) <= 2 * width and len(row) > 1 and not any(map(number_or_time, filled)):
            return [row]
        elif 2 * len(filled) >= width:  # else a remark between the names and the rows
            break
    return block


def _names(block: list[list[str]]) -> tuple[list[str], list[str], bool, str]:
    """Names, units, whether the names are one plain line, and what is to be said of it."""
    headers: list[list[str]] = []
    units = [""] * len(block[0])
    for row in block:
        above = headers[-1] if headers else []
        filled = [cell for cell, name in zip_longest(row, above, fillvalue="") if cell and cell.lower() != name.lower()]
        told = re.fullmatch("units?:?", row[0], re.I) is not None
        if headers and (told or sum(_UNIT.fullmatch(cell) is not None for cell in filled) > 0.6 * len(filled)):
            units = [cell.strip("[]()") if cell.strip("-") else "" for cell in row]
        elif not (headers and all(map(_KIND.fullmatch, filled))):
            headers.append(row)
    if (len(block[0]) == 2 and all(headers[-1])) or len(headers) > 2:  # what stands above is no header
        headers = headers[-1:]
    names = [_clean(cell) for cell in headers[-1]]
    if len(headers) == 1:
        return names, units, names == headers[0], ""
    above = [_clean(cell) for cell in headers[0]] + [""] * len(names)
    filled = [name for name in names if name]
    if len(set(filled)) < len(filled):  # groups above, the same names below each
        group = ""
        for i, name in enumerate(names):
            group = above[i] or group
            names[i] = f"{group} {name}".strip()
    else:
        names = [name or upper for name, upper in zip(names, above)]
    return names, units, False, f"the header has two lines: columns are named {listed(names)}"


def _clean(cell: str) -> str:
    return "".join(c for c in cell.strip().strip('"').strip() if c.isprintable())[:200]


def _units(names: Sequence[str]) -> dict[str, str]:
    """Units that names end in, `flow [l/min]`."""
    found = {name: match for name in names if (match := _NAMED_UNIT.search(name))}
    return {name: match[1] or match[2] for name, match in found.items()}


def _made_up(rows: list[list[str]], width: int) -> list[str]:
    """Names for columns that have none: time, s1, s2 …"""
    row = next((row for row in rows if len(row) == width), rows[0])
    time = next((i for i, cell in enumerate(row) if is_label(cell)), None) if width > 1 else None
    first = [row[0] for row in rows if len(row) == width]
    if time is None and width > 1 and since_1970(first) and len(set(first)) > 1:
        time = 0
    names = [f"s{i}" for i in range(1, width + (time is None))]
    return names if time is None else [*names[:time], "time", *names[time:]]


def _unique(names: Sequence[str]) -> list[str]:
    """The names, with _2, _3 … behind those that have been before."""
    taken = set(names)
    seen: Counter[str] = Counter()
    found = []
    for name in names:
        seen[name] += bool(name)
        if seen[name] > 1:
            while (other := f"{name}_{seen[name]}") in taken:
                seen[name] += 1
            taken.add(name := other)
        found.append(name)
    return found
