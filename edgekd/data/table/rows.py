"""One pass over a file: lines to cells to columns, thousands at once, by a plan that the pass may prove wrong."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np

from edgekd.data.table.clock import Clock
from edgekd.data.table.columns import label_of
from edgekd.data.table.head import batches
from edgekd.data.table.plan import Plan, named_cells
from edgekd.data.table.values import Growing, NumberColumn, Odd, WordColumn
from edgekd.runtime.errors import RecordingError
from edgekd.runtime.json_fields import shown
from edgekd.runtime.sources import NoSample
from edgekd.runtime.sources.cells import Condition
from edgekd.runtime.sources.lines import NOISE, split

CONTROLS = bytes(i for i in range(128) if NOISE.fullmatch(chr(i)))
Batch = tuple[list[Any], np.ndarray]
"""Cells by column, and the number of each row's line."""


class NotUtf8(Exception):
    """The bytes of a file are in another encoding after all."""


@dataclass
class Lines:
    """Lines of one kind that are no rows, or not as they should be."""

    numbers: list[int] = field(default_factory=list)
    words: str = ""
    """The first of them."""

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.numbers)

    @property
    def where(self) -> str:
        """Words for them, to follow `line`."""
        return f"{self.numbers[0]}{f', and {self.count - 1} more' * (self.count > 1)}"

    def add(self, number: int, words: str) -> None:
        """Count one."""
        self.words = self.words or shown(words, 60)
        self.numbers.append(number)


@dataclass
class Pass:
    """What one pass over a file found."""

    path: Path
    plan: Plan
    numbers: dict[int, NumberColumn] = field(default_factory=dict)
    words: dict[int, WordColumn] = field(default_factory=dict)
    clocks: dict[str, Clock] = field(default_factory=dict)
    times: dict[str, Growing] = field(default_factory=dict)
    exact: dict[int, Growing] = field(default_factory=dict)
    """float64 of columns that are counts."""
    labels: Growing = field(default_factory=lambda: Growing(np.bool_))
    on: Growing = field(default_factory=lambda: Growing(np.bool_))
    """Rows that are for the detector."""
    lines: Growing = field(default_factory=lambda: Growing(np.int32))
    rows: int = 0
    passed_over: int = 0
    """Rows of other machines."""
    bad: Lines = field(default_factory=Lines)
    remarks: Lines = field(default_factory=Lines)
    """Lines of words between rows of cells, or after them."""
    short: Lines = field(default_factory=Lines)
    again: Lines = field(default_factory=Lines)
    """Lines of names that came again."""
    torn: Lines = field(default_factory=Lines)
    """A last line that is not ended, and too short."""
    late: Counter[str] = field(default_factory=Counter)
    """Names that the beginning of the file did not have."""

    def __post_init__(self) -> None:
        plan, roles = self.plan, self.plan.roles
        suffixes = dict(plan.suffixes)
        ordered = roles.entity is None and roles.tag is None
        for i in roles.sensors if roles.tag is None else ():
            if i in plan.words:
                self.words[i] = WordColumn()
            else:
                layout = replace(plan.layout, suffixes=(suffixes[i],) if i in suffixes else ())
                self.numbers[i] = NumberColumn(layout, i in plan.switches)
        if roles.tag is not None:
            assert roles.value is not None
            self.words[roles.tag] = WordColumn()
            self.numbers[roles.value] = NumberColumn(plan.layout, True)
        if roles.entity is not None:
            self.words[roles.entity] = WordColumn()
        self.clocks = {one: Clock(plan.layout, one, ordered) for one in plan.formats}
        self.times = {one: Growing(np.float64) for one in plan.formats}
        self.exact = {i: Growing(np.float64) for i in self.numbers if i in plan.exact or i == roles.value}
        self.values = Growing(np.float32, len(self.numbers) if roles.tag is None else 0)
        """float32 (T, n) of `numbers`, in their order."""
        self._conditions = [Condition(text) for text in plan.layout.only]
        self._meaning: dict[str, bool] = {}

    def take(self, columns: list[Any], lines: np.ndarray) -> None:
        """Keep the rows of a batch. Raises RecordingError where a label is none."""
        roles = self.plan.roles
        if roles.picked is not None:
            place, machine = roles.picked
            mine = np.fromiter((str(cell).strip() == machine for cell in columns[place]), bool, len(lines))
            self.passed_over += int((~mine).sum())
            columns, lines = _keep(columns, lines, mine)
        if self.clocks and len(lines):
            columns, lines = self._timed(columns, lines)
        parsed = {i: column.parse(columns[i]) for i, column in self.numbers.items()}
        if not self.clocks and (bad := self._without_numbers(parsed, len(lines))).any():
            columns, lines = self._leave_out(columns, lines, bad)
            parsed = {i: column.parse(columns[i]) for i, column in self.numbers.items()}
        if not len(lines):
            return
        self.add_numbers(parsed, len(lines))
        for i, column in self.words.items():
            column.add(columns[i])
        if roles.label is not None:
            labels = [self._label(cell, line) for cell, line in zip(columns[roles.label], lines)]
            self.labels.add(np.array(labels, bool))
        if self._conditions:
            held = [list(map(condition.holds, columns[i])) for condition, i in zip(self._conditions, roles.only)]
            self.on.add(np.logical_and.reduce(held))
        self.lines.add(lines)
        self.rows += len(lines)

    def _timed(self, columns: list[Any], lines: np.ndarray) -> Batch:
        """Keep the times, of formats that have not failed before others; the rows that have one."""
        labels = self._labels_of(columns)
        found = {one: clock.seconds(labels) for one, clock in self.clocks.items()}
        none = np.logical_and.reduce(np.isnan(list(found.values())))
        for one in [one for one, times in found.items() if np.isnan(times[~none]).any()][: len(found) - 1]:
            del self.clocks[one], self.times[one], found[one]
        for one, times in found.items():
            self.times[one].add(times[~none])
        return self._leave_out(columns, lines, none)

    def _without_numbers(self, parsed: dict[int, tuple[np.ndarray, Odd]], count: int) -> np.ndarray:
        """Rows, bool (T,), of words where several columns are numbers."""
        worded = np.zeros(count, bool)
        for i, (_, odd) in parsed.items():
            worded[[place for place, word in odd if self.numbers[i].is_word(word)]] = True
        if len(parsed) < 2 or not worded.any():
            return np.zeros(count, bool)
        return np.asarray(worded & np.isnan([values for values, _ in parsed.values()]).all(0))

    def _leave_out(self, columns: list[Any], lines: np.ndarray, bad: np.ndarray) -> Batch:
        """The other rows; bad: bool (T,)."""
        for i in np.flatnonzero(bad).tolist():
            words = ",".join(str(column[i]) for column in columns if column is not None)
            if words.strip(","):  # else a row of empty cells, as spreadsheets leave them
                self.bad.add(int(lines[i]), words)
        return _keep(columns, lines, ~bad)

    def add_numbers(self, parsed: dict[int, tuple[np.ndarray, Odd]], count: int) -> None:
        """Keep the numbers of a batch: float64 (T,) of each column, and its cells that are none."""
        into = self.values.add(np.full((count, self.values.values().shape[1]), np.nan, np.float32))
        for place, (i, (values, odd)) in enumerate(parsed.items()):
            self.numbers[i].look_at(values, odd)
            if i in self.exact:
                self.exact[i].add(values)
            if into.shape[1]:
                with np.errstate(over="ignore"):
                    into[:, place] = values
        into[np.isinf(into)] = np.nan

    def _labels_of(self, columns: list[Any]) -> list[Any]:
        if len(self.plan.roles.time) == 1:
            return columns[self.plan.roles.time[0]]  # type: ignore[no-any-return]
        parts = [[str(cell).strip() for cell in columns[i]] for i in self.plan.roles.time]
        return [" ".join(cells).strip() for cells in zip(*parts)]

    def _label(self, cell: Any, line: int) -> bool:
        text = "" if cell is None else str(cell)
        if text not in self._meaning:
            found = label_of(text)
            if found is None:
                raise RecordingError(
                    f"{self.path}: label '{shown(text, 40)}' at line {line} is neither 0 (normal) nor 1; "
                    "rewrite the column, or pass --label-column none to do without"
                )
            self._meaning[text] = found
        return self._meaning[text]


def _keep(columns: list[Any], lines: np.ndarray, mask: np.ndarray) -> Batch:
    if mask.all():
        return columns, lines
    chosen = mask.tolist()
    return [
        None if column is None else column[mask] if isinstance(column, np.ndarray) else list(compress(column, chosen))
        for column in columns
    ], lines[mask]


def read_rows(path: Path, plan: Plan) -> Pass:
    """One pass over a file.

    Raises NotUtf8, and RecordingError where the file cannot be read.
    """
    found = Pass(path, plan)
    cut, number = _Cutter(plan, found), 1
    for lines, ended in batches(path, plan.layout.encoding):
        cut.take(lines, np.arange(number, number + len(lines)), ended)
        number += len(lines)
    return found


class _Cutter:
    """Cuts lines into the cells of a plan's columns."""

    def __init__(self, plan: Plan, found: Pass) -> None:
        self._plan, self._found = plan, found
        self._layout = plan.layout
        self._width = len(plan.names)
        self._header = list(plan.found.header)
        self._comment = plan.layout.comment
        roles = plan.roles
        used = {*roles.sensors, *roles.time, *roles.only, roles.label, roles.entity, roles.tag, roles.value}
        self._used = (used | {roles.picked[0]} if roles.picked else used) - {None}
        self._index = {name: i for i, name in enumerate(plan.names)}

    def take(self, lines: list[bytes], numbers: np.ndarray, ended: bool) -> None:
        """Cut these, and keep what is in them."""
        kept = (numbers > self._plan.found.first) & np.fromiter(map(bool, lines), bool, len(lines))
        if not kept.all():
            lines, numbers = list(compress(lines, kept.tolist())), numbers[kept]
        if not lines:
            return
        whole = b"\n".join(lines)
        try:
            text = whole.decode("utf-8", "replace" if self._layout.encoding else "strict")
        except UnicodeDecodeError:
            raise NotUtf8(whole) from None
        if self._layout.form != "table":
            columns, numbers = self._named(text.split("\n"), numbers)
        else:
            clean = len(whole.translate(None, CONTROLS)) == len(whole)
            at_once = self._at_once(text, len(lines)) if clean else None
            columns, numbers = (at_once, numbers) if at_once else self._one_by_one(text.split("\n"), numbers, ended)
        if len(numbers):
            self._found.take(columns, numbers)

    def _at_once(self, text: str, count: int) -> list[Any] | None:
        """The columns of lines that all have their number of cells, without quotes; None for others."""
        separator, width = self._layout.separator, self._width
        if '"' in text or separator == " " or (self._comment and self._comment in text):
            return None
        if self._header and self._header[0] and self._header[0] in text:
            return None
        if [line.count(separator) for line in text.split("\n")].count(width - 1) != count:
            return None
        flat = text.replace("\n", separator).split(separator)
        return [flat[i::width] if i in self._used else None for i in range(width)]

    def _one_by_one(self, lines: list[str], numbers: np.ndarray, ended: bool) -> Batch:
        rows, kept = [], []
        for line, number in zip(lines, numbers.tolist()):
            line = NOISE.sub("", line).strip(" \r\n")
            if not line or (self._comment and line.startswith(self._comment)):
                continue
            try:
                cells = split(line, self._layout.separator)
            except NoSample:
                cells = []
            while len(cells) > self._width and cells[-1] == "":
                cells.pop()
            if cells and not any(cells):
                continue
            kind = self._kind(cells, ended)
            if kind is not None:
                kind.add(number, line)
            if kind in (None, self._found.short):
                rows.append(cells + [""] * (self._width - len(cells)))
                kept.append(number)
        return [list(column) for column in zip(*rows)], np.array(kept, np.int64)

    def _kind(self, cells: list[str], ended: bool) -> Lines | None:
        """What a line counts as; None: a row as it should be."""
        found, count, width = self._found, len(cells), self._width
        if self._header and cells == self._header:
            return found.again
        if count == width:
            return None
        if count < width and not ended:
            return found.torn
        return found.remarks if count == 1 else found.short if 2 <= count < width else found.bad

    def _named(self, lines: list[str], numbers: np.ndarray) -> Batch:
        rows, kept = [], []
        for line, number in zip(lines, numbers.tolist()):
            if not line.strip() or (self._comment and line.startswith(self._comment)):
                continue
            try:
                rows.append(named_cells(line, self._layout))
                kept.append(number)
            except NoSample:
                self._found.bad.add(number, line.strip())
        columns: list[Any] = [[None] * len(rows) if i in self._used else None for i in range(self._width)]
        for i, row in enumerate(rows):
            for name, value in row.items():
                place = self._index.get(name)
                if place is None:
                    self._found.late[name] += 1
                elif (column := columns[place]) is not None:
                    column[i] = value
        return columns, np.array(kept, np.int64)
