"""How a file is written: encoding, form and separator, what stands above its rows, the names of its columns."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, zip_longest
from pathlib import Path

from edgekd.data.table.numbers import suffix_of
from edgekd.data.table.times import is_label, since_1970
from edgekd.runtime.errors import RecordingError, UsageError
from edgekd.runtime.layout import Layout
from edgekd.runtime.sources import NoSample
from edgekd.runtime.sources.cells import MISSING, SWITCH
from edgekd.runtime.sources.lines import NOISE, line_protocol, pairs, split
from edgekd.runtime.sources.open_file import chunks
from edgekd.runtime.sources.row_reader import LineSplitter

BATCH_BYTES = 1 << 18
HEAD_LINES = 400
LONGEST_LINE = 1 << 20
SEPARATORS = (";", "\t", "|", ",", " ")
COMMENTS = ("#", "//", "%")
ENCODINGS = [*(f"cp125{i}" for i in range(9)), "cp850", "cp437", "iso8859-2", "iso8859-5", "iso8859-15"]
USUAL = frozenset("°µμ²³äöüÄÖÜßéèêëàâáíìîóòôúùûñçÇÉ±·–…×ØøåÅæÆ½¼¾‰€“”„’´\u00a0")
"""What is not ASCII in a header of Western Europe."""
_ODD = re.compile(r"\w[\u2013-\u2122\u2026]\w|\bø[CF]\b")
"""What other encodings look like when they are read as Windows-1252."""
_SEP_LINE = re.compile(r'"?sep=(.)"?', re.I)
_BASE = (
    r"(?:°\s?[CFKR]?|deg\s?[CFK]?|ohm|Ω|[munµμkMGTdchp]?(?:m|g|s|A|V|W|Hz|Pa|bar|J|N|Nm|l|L|Wh|VA|VAh|var|varh|S|F|H|T|"
    r"eV|mol|rad|B|dB|b|t|Ah|C|K|Vs|psi|lx|lm|cd|Bq|Sv)|%(?:\s?RH|\s?rel)?|rpm|RPM|[munµμ]?secs?|U|h|min|d|yr?|ppm|ppb|inch|in|ft|gal|"
    r"lbs?|mi|mph|psi[ag]?|barg|bara|mmHg|inHg|mH2O|VDC|VAC|kn|NTU|pH|Nm3|Nl|pcs|count|counts|lux|1|EUR|cfm|gpm|scfm|dBA|dBm|TS|RN)"
)
_UNIT = re.compile(
    rf"[\[(]?{_BASE}(?:[²³23]|\^?-?[1-4])?(?:\s?[/·*. ]\s?{_BASE}(?:[²³23]|\^?-?[1-4])?)*[\])]?|-+|n/?a|"
)
_PAIR_CELL = re.compile(r"(?:[^\W\d][^=:]*)?[=:]\s*(?:[-+.\d\u2212]|\Z)")
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


@dataclass(frozen=True)
class Line:
    """A line that says something."""

    number: int
    """From 1."""
    text: str
    count: int = 1
    """Lines that it takes: a name in quotes may hold line breaks."""


def batches(path: Path, encoding: str) -> Iterator[tuple[list[bytes], bool]]:
    """The lines of a file, some thousand at once, and whether each is ended; UTF-8.

    Raises RecordingError where it cannot be read.
    """
    splitter, batch, size = LineSplitter(LONGEST_LINE), [], 0
    try:
        for piece in chunks(path, encoding):
            batch.append(piece)
            size += len(piece)
            if size >= BATCH_BYTES and not piece.endswith(b"\r"):
                yield splitter.feed(b"".join(batch).replace(b"\r\n", b"\n")), True
                batch, size = [], 0
        yield splitter.feed(b"".join(batch).replace(b"\r\n", b"\n")), True
        yield splitter.end(), False
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read ({error.strerror or error}); check its permissions") from error
    except UsageError as error:
        raise RecordingError(str(error)) from error


def head_of(path: Path, encoding: str) -> tuple[str, list[Line]]:
    """The encoding of a file, and its first lines that say something.

    Raises RecordingError where it cannot be read, or holds nothing.
    """
    raw: list[bytes] = []
    told, opened = _opened(path, encoding)
    for lines, _ in opened:
        raw += lines
        if len(raw) > HEAD_LINES:
            break
    content = b"\n".join(raw)
    if not encoding:
        encoding = encoding_of(content)
        if encoding not in ("", "utf-8"):
            return head_of(path, encoding)
    texts = content.decode("utf-8", "replace").removeprefix("\ufeff").split("\n")
    head = [Line(i, text) for i, text in enumerate(texts, 1) if text.strip()]
    if not head:
        raise RecordingError(f"{path}: empty; a recording needs a header and at least one row")
    return told or encoding, head


def _opened(path: Path, encoding: str) -> tuple[str, Iterator[tuple[list[bytes], bool]]]:
    """The encoding as far as it is known, and `batches`: it may be UTF-16 without its mark."""
    try:
        first = next(found := batches(path, encoding))
    except RecordingError as error:
        if encoding or "is no text" not in str(error):
            raise
        for kind in ("utf-16-le", "utf-16-be"):
            lines = list(batches(path, kind))
            content = b"\n".join(chain.from_iterable(batch for batch, _ in lines)).decode()
            if content and sum(map(str.isascii, content)) > 0.9 * len(content) and "\0" not in content:
                return kind, iter(lines)
        raise RecordingError(f"{path}: not a text file; export it as CSV") from error
    return encoding, chain([first], found)


def encoding_of(content: bytes) -> str:
    """ "" for UTF-8, else what the bytes are likeliest to be."""
    try:
        content.decode()
        return ""
    except UnicodeDecodeError as error:
        if error.reason == "unexpected end of data":
            return ""
    western = content.decode("cp1252", "replace")
    if not {c for c in western if not c.isascii()} <= USUAL or _ODD.search(western):
        from charset_normalizer import from_bytes

        best = from_bytes(content, cp_isolation=ENCODINGS).best()
        if best is not None:
            return best.encoding.replace("_", "-")
    return "cp1252"


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
    share = lambda holds: sum(map(holds, said)) >= 0.9 * len(said)  # noqa: E731
    if share(lambda line: _is_json(line if line[:1] in "{[" else line[line.find("{") :])):
        return "json"
    if share(lambda line: "=" in line and line_protocol(line) is not None):
        return "line protocol"
    if share(lambda line: ("=" in line or ":" in line) and _is_pairs(line)):
        _, rows, well = _separated(head, "")
        named = any(_PAIR_CELL.match(cell) for row in rows[len(rows) // 3 :] for cell in row)
        return "pairs" if named or well <= 0.3 else "table"
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
    below = below[len(below) // 3 :] or rows[-1:]
    kinds = []
    for column in zip(*below):
        filled = [cell for cell in column if cell.lower() not in MISSING]
        times = sum(map(is_label, filled))
        numbers = sum(suffix_of(cell) is not None for cell in filled)
        kinds.append("time" if 2 * times > len(filled) else "number" if 2 * numbers >= len(filled) > 0 else "")
    if not any(kinds):
        return None
    for i, row in enumerate(rows):
        if not width <= 2 * len(row) <= 2 * width:
            continue
        asked = [(kind, cell) for kind, cell in zip(kinds, row) if kind]
        fits = [is_label(cell) if kind == "time" else suffix_of(cell) is not None for kind, cell in asked]
        empty = [cell.lower() in MISSING for _, cell in asked]
        words = sum(not fit and not none for fit, none in zip(fits, empty))
        enough = 2 * sum(fits) >= sum(map(bool, kinds)) or 2 * sum(empty) >= len(row)
        time_fits = all(fit for (kind, _), fit in zip(asked, fits) if kind == "time")
        if len(row) == width and any(fit and kind == "time" for (kind, _), fit in zip(asked, fits)):
            return i  # no header says a time
        if i and "" not in row and all(empty) and len(asked) == len(row) == width:
            return i
        if any(fits) and enough and 2 * words < len(asked) and time_fits:
            return i
    return None


def _block(rows: list[list[str]], at: int, width: int) -> list[list[str]]:
    """The lines of names, units and the like directly above the first row."""
    block: list[list[str]] = []
    for row in reversed(rows[:at]):
        filled = row[: 1 + max((i for i, cell in enumerate(row) if cell), default=-1)]
        if filled and width - 1 <= len(row) <= width:
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
