"""CSV: a header, one row a sample, numbers; a clock and a label column where there are some.

Delimiter `,`, `;` or tab, whichever the header has; with `;` a comma may be the decimal point. Empty cells and the
usual words for nothing are missing values. Read row by row so that every complaint can name its line.
"""

from __future__ import annotations

import csv
import io
from array import array
from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path

import numpy as np

from edgekd.data import clock
from edgekd.data.columns import Roles, Table, assemble, find_roles, parse_labels
from edgekd.data.recording import Recording
from edgekd.data.request import Request
from edgekd.runtime.errors import RecordingError

SUFFIXES = (".csv", ".tsv", ".txt")
DELIMITERS = (",", ";", "\t")
WORDS = {word: float("nan") for word in ("", "null", "na", "n/a", "#n/a", "none", "-", "?", "bad")}
WORDS |= {"true": 1.0, "false": 0.0}
"""Cells that are no numbers and yet have a value; `float` itself reads nan and inf."""


def matches(path: Path) -> bool:
    """Whether a file is called like a table of text."""
    return path.is_file() and path.suffix.lower() in SUFFIXES


def header(path: Path) -> list[str]:
    """Column names in lower case; empty where the file cannot be read as text."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline(65536)
    except (OSError, UnicodeDecodeError):
        return []
    return [name.strip().lower() for name in next(csv.reader([first], delimiter=_delimiter(first)), [])]


def load(request: Request, ignore: Sequence[str] = ()) -> Recording:
    """All rows of a file, whatever part is asked for; `ignore` names columns (lower case) that are no sensors.

    Raises RecordingError naming line and column of what cannot be read.
    """
    text, notes = _text(request.path)
    delimiter = _delimiter(text[: text.find("\n")] if "\n" in text else text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        names = next((row for row in reader if any(cell.strip() for cell in row)), None)
        if names is None:
            raise RecordingError(f"{request.path}: empty; a recording needs a header and at least one row")
        if all(_number(name, delimiter) is not None for name in names):
            raise RecordingError(
                f"{request.path}: no header, the first line is all numbers; add a line of sensor names"
            )
        roles = find_roles(names, request, ignore)
        rows = _Rows(request.path, names, roles, delimiter)
        for row in reader:
            rows.add(row, reader.line_num)
    except csv.Error as error:
        raise RecordingError(f"{request.path}: line {reader.line_num}: {error}; mend this line") from error
    return assemble(request, rows.table(tuple(notes)), rows.where)


def _text(path: Path) -> tuple[str, list[str]]:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return raw.decode("utf-16", errors="replace"), []
    if b"\0" in raw[:65536]:
        raise RecordingError(f"{path}: not a text file; export it as CSV")
    try:
        return raw.decode("utf-8-sig"), []
    except UnicodeDecodeError:  # a degree sign from a Windows tool, mostly
        return raw.decode("cp1252", errors="replace"), ["not UTF-8: read as Windows-1252"]


def _delimiter(first_line: str) -> str:
    return max(DELIMITERS, key=first_line.count)


def _number(cell: str, delimiter: str) -> float | None:
    """The value of one cell; None where it has none."""
    cell = cell.strip()
    try:
        return float(cell.replace(",", ".") if delimiter == ";" else cell)
    except ValueError:
        return WORDS.get(cell.lower())


class _Rows:
    """Rows of one file as they come, columns by role."""

    def __init__(self, path: Path, names: Sequence[str], roles: Roles, delimiter: str) -> None:
        self.path, self.names, self.roles, self.delimiter = path, names, roles, delimiter
        self.numbers = array("d")
        self.lines = array("q")
        self.times: list[str] = []
        self.labels: list[str] = []
        self.entities: list[str] = []
        self.elapsed: list[str] = []
        self._sensors = itemgetter(*roles.sensors, roles.sensors[0])  # one more, so that it always gives a tuple

    def where(self, i: int) -> str:
        return f"line {self.lines[i]}"

    def add(self, row: list[str], line: int) -> None:
        if len(row) != len(self.names):
            if not any(cell.strip() for cell in row):
                return
            raise RecordingError(
                f"{self.path}: line {line} has {len(row)} values, the header has {len(self.names)} names; mend it"
            )
        cells = self._sensors(row)[:-1]
        try:  # most rows are plain numbers, and this is what a long file spends its time on
            plain = (cell.replace(",", ".") for cell in cells) if self.delimiter == ";" else cells
            values = array("d", map(float, plain))
        except ValueError:
            values = array("d", (self._cell(cell, i, line) for i, cell in zip(self.roles.sensors, cells)))
        self.numbers.extend(values)
        self.lines.append(line)
        roles = self.roles
        if roles.time:
            self.times.append(" ".join(row[i].strip() for i in roles.time))
        if roles.label is not None:
            self.labels.append(row[roles.label])
        if roles.entity is not None:
            self.entities.append(row[roles.entity].strip())
        if roles.elapsed is not None:
            self.elapsed.append(row[roles.elapsed])

    def _cell(self, cell: str, column: int, line: int) -> float:
        value = _number(cell, self.delimiter)
        if value is None:
            raise RecordingError(
                f"{self.path}: line {line}, column '{self.names[column].strip()}': '{cell.strip()[:40]}' is no number; "
                "mend the cell, or drop the column if it is no sensor"
            )
        return value

    def table(self, notes: tuple[str, ...]) -> Table:
        source = str(self.path)
        return Table(
            names=self.names,
            roles=self.roles,
            values=np.array(self.numbers).reshape(-1, len(self.roles.sensors)),
            times_s=clock.parse_times(self.times, source, self.where) if self.times else None,
            labels=parse_labels(self.labels, source, self.where) if self.labels else None,
            entities=self.entities or None,
            elapsed_s=clock.parse_times(self.elapsed, source, self.where) if self.elapsed else None,
            notes=notes,
        )
