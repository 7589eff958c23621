"""One pass over a file: lines to cells to columns, thousands at once, by a plan that the pass may prove wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np

from edgekd.data.table.clock import Clock
from edgekd.data.table.columns import Roles, label_of
from edgekd.data.table.text import Found, batches
from edgekd.runtime.errors import RecordingError
from edgekd.runtime.json_fields import shown
from edgekd.runtime.layout import Layout
from edgekd.runtime.sources import NoSample
from edgekd.runtime.sources.cells import Cells
from edgekd.runtime.sources.condition import Condition
from edgekd.runtime.sources.lines import NOISE, cells_of, split

MANY = 4096
"""Words of one column that are told apart; a column with more is free text."""
NAN = float("nan")
CONTROLS = bytes(i for i in range(128) if NOISE.fullmatch(chr(i)))
Batch = tuple[list[Any], np.ndarray]
"""Cells by column, and the number of each row's line."""


class NotUtf8(Exception):
    """The bytes of a file are in another encoding after all."""


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


class Growing:
    """An array that blocks are put behind. Small ones kept apart would tear holes into the heap while they live."""

    def __init__(self, kind: type[np.generic], *wide: int) -> None:
        self._room = np.empty((1 << 12, *wide), kind)
        self._used = 0

    def add(self, block: np.ndarray) -> np.ndarray:
        """Put it behind; the place where it is."""
        end = self._used + len(block)
        if end > len(self._room):
            room = np.empty((max(end, 2 * len(self._room)), *self._room.shape[1:]), self._room.dtype)
            room[: self._used] = self._room[: self._used]
            self._room = room
        self._room[self._used : end] = block
        self._used = end
        return self._room[end - len(block) : end]

    def values(self) -> np.ndarray:
        """All of them."""
        return self._room[: self._used]


class NumberColumn:
    """Numbers as they come, and what they look like as written."""

    def __init__(self, layout: Layout, switch: bool = False) -> None:
        self._cells, self._switch = Cells(layout), switch
        self._none = np.array(sorted(self._cells.none))
        self._comma = layout.decimal != "." and layout.thousands != ","
        self._thousands = layout.thousands
        self._last = np.array([])
        self.said: Counter[str] = Counter()
        """Words that mean no value, and how often they were said."""
        self.words: Counter[str] = Counter()
        """Cells that are no numbers."""
        self.blank = self.count = self.ones = self.steps = 0
        self.largest, self.least_step, self.binary = 0.0, np.inf, True

    def parse(self, cells: Sequence[Any]) -> tuple[np.ndarray, list[tuple[int, str]]]:
        """float64 (T,), NaN where there is no number, and the cells that are none, by their place."""
        odd: list[tuple[int, str]] = []
        try:
            values = cells.copy() if isinstance(cells, np.ndarray) else self._quick(cells)
        except (ValueError, TypeError):
            values = np.empty(len(cells))
            known: dict[Any, float | None] = {}
            for i, cell in enumerate(cells):
                key = cell if isinstance(cell, str) else None
                if key is None or key not in known:
                    try:
                        value: float | None = self._cells.number(cell, self._switch)
                    except NoSample:
                        value = None
                    if key is not None and len(known) < MANY:
                        known[key] = value
                else:
                    value = known[key]
                values[i] = NAN if value is None else value
                if value is None or (value != value and str(cell or "").strip()):
                    odd.append((i, str(cell).strip()))
        if len(self._none):
            values[np.isin(values, self._none)] = NAN
        for i in np.flatnonzero(np.isinf(values)).tolist():
            odd.append((i, str(cells[i]).strip()))
            values[i] = NAN
        return values, odd

    def _quick(self, cells: Sequence[str]) -> np.ndarray:
        """Raises ValueError where a cell is no plain number."""
        text = "\n".join(cells)
        if "_" in text or (self._thousands and self._thousands in text) or "n" in text or "N" in text:
            raise ValueError
        if self._comma and "," in text:
            cells = text.replace(",", ".").split("\n")
        if "" in cells:
            cells = [cell or "nan" for cell in cells]
        return np.fromiter(map(float, cells), np.float64, len(cells))

    def look_at(self, values: np.ndarray, odd: Sequence[tuple[int, str]]) -> None:
        """See what was parsed, float64 (T,)."""
        for _, word in odd:
            self._count(word)
        finite = values[~np.isnan(values)]
        self.blank += len(values) - len(finite)
        if not len(finite):
            return
        self.count += len(finite)
        self.largest = max(self.largest, float(finite.max()), -float(finite.min()))
        steps = np.diff(np.concatenate((self._last, finite)))
        self._last = finite[-1:]
        self.ones += int((steps == 1).sum())
        self.steps += len(steps)
        steps = np.abs(steps[steps != 0])
        if len(steps):
            self.least_step = min(self.least_step, float(steps.min()))
        self.binary = self.binary and self.largest <= 1 and bool(((finite == 0) | (finite == 1)).all())

    def is_word(self, cell: str) -> bool:
        """Whether a cell that is no number does not even say that there is none."""
        try:
            missing = self._cells.number(cell, True)
        except NoSample:
            return True
        return missing == missing

    def _count(self, word: str) -> None:
        counter = self.words if self.is_word(word) else self.said
        if len(counter) < MANY or word in counter:
            counter[word] += 1


class WordColumn:
    """Words as they come, by number."""

    def __init__(self) -> None:
        self.codes: dict[str, int] = {}
        self.counts: Counter[str] = Counter()
        self._rows = Growing(np.int32)
        self.many = False

    def add(self, cells: Sequence[Any]) -> None:
        """Keep these."""
        known: dict[Any, int] = {}
        texts = [cell if isinstance(cell, str) else "" if cell is None else str(cell) for cell in cells]
        for text, count in Counter(texts).items():
            word = text.strip()
            if self.many and word not in self.codes:
                word = ""
            known[text] = self.codes.setdefault(word, len(self.codes))
            self.counts[word] += count
            self.many = len(self.codes) >= MANY
        self._rows.add(np.fromiter(map(known.__getitem__, texts), np.int32, len(texts)))

    def values(self) -> np.ndarray:
        """int32 (T,), numbers of the words."""
        return self._rows.values()

    def names(self) -> list[str]:
        """The words by their numbers."""
        return list(self.codes)


@dataclass
class Bad:
    """Lines that are no rows."""

    numbers: list[int] = field(default_factory=list)
    words: str = ""
    """The first of them."""

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.numbers)

    @property
    def first(self) -> int:
        """The number of the first."""
        return self.numbers[0]

    def add(self, number: int, words: str) -> None:
        """Count one."""
        self.words = self.words or words
        self.numbers.append(number)


@dataclass
class Pass:
    """What one pass over a file found."""

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
    bad: Bad = field(default_factory=Bad)
    remarks: Bad = field(default_factory=Bad)
    """Lines of words between rows of cells, or after them."""
    short: Bad = field(default_factory=Bad)
    again: Bad = field(default_factory=Bad)
    """Lines of names that came again."""
    torn: Bad = field(default_factory=Bad)
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
        if not len(lines):
            return
        if self.clocks:
            labels = self._labels_of(columns)
            found = {one: clock.seconds(labels) for one, clock in self.clocks.items()}
            good = ~np.isnan(np.stack(list(found.values()))).all(0)
            if not good.all():
                for i in np.flatnonzero(~good).tolist():
                    if (words := _shown_row(columns, i)).strip(",…"):  # else of empty cells, a footer
                        self.bad.add(int(lines[i]), words)
                columns, lines = _keep(columns, lines, good)
                found = {one: times[good] for one, times in found.items()}
            if len(found) > 1:
                failing = [one for one, times in found.items() if np.isnan(times).any()]
                for one in failing[: len(found) - 1]:
                    del self.clocks[one], self.times[one], found[one]
        parsed = {i: column.parse(columns[i]) for i, column in self.numbers.items()}
        if not self.clocks and any(odd for _, odd in parsed.values()):
            said = np.zeros(len(lines), bool)
            for place, (_, odd) in parsed.items():
                said[[i for i, word in odd if self.numbers[place].is_word(word)]] = True
            bad = said & np.isnan(np.stack([values for values, _ in parsed.values()])).all(0) & (len(parsed) > 1)
            if bad.any():
                for i in np.flatnonzero(bad).tolist():
                    self.bad.add(int(lines[i]), _shown_row(columns, i))
                columns, lines = _keep(columns, lines, ~bad)
                parsed = {i: column.parse(columns[i]) for i, column in self.numbers.items()}
        if self.clocks:
            for one, times in found.items():
                self.times[one].add(times)
        self.add_numbers(parsed, len(lines))
        for i, words in self.words.items():
            words.add(columns[i])
        if roles.label is not None:
            self.labels.add(
                np.fromiter(
                    (self._label(cell, lines, i) for i, cell in enumerate(columns[roles.label])), bool, len(lines)
                )
            )
        if self._conditions:
            on = np.ones(len(lines), bool)
            for condition, place in zip(self._conditions, roles.only):
                on &= np.fromiter(map(condition.holds, columns[place]), bool, len(lines))
            self.on.add(on)
        self.lines.add(lines)
        self.rows += len(lines)

    def add_numbers(self, parsed: dict[int, tuple[np.ndarray, list[tuple[int, str]]]], count: int) -> None:
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

    def _label(self, cell: Any, lines: np.ndarray, i: int) -> bool:
        text = "" if cell is None else str(cell)
        if text not in self._meaning:
            found = label_of(text)
            if found is None:
                raise RecordingError(
                    f"label '{shown(text, 40)}' at line {lines[i]} is neither 0 (normal) nor 1; "
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


def _shown_row(columns: list[Any], i: int) -> str:
    return shown(",".join(str(column[i]) for column in columns if column is not None), 60)


def read_rows(path: Path, plan: Plan, head: Sequence[tuple[int, str]] | None = None) -> Pass:
    """One pass over a file; over these lines only, by number, where they are given.

    Raises NotUtf8, and RecordingError where the file cannot be read.
    """
    found = Pass(plan)
    cut = _Cutter(plan, found)
    if head is not None:
        cut.take([text.encode() for _, text in head], np.array([number for number, _ in head]), True)
        return found
    number = 0
    for lines, ended in batches(path, plan.layout.encoding):
        at = np.arange(number + 1, number + 1 + len(lines))
        number += len(lines)
        cut.take(lines, at, ended)
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
        if len(numbers) and numbers[0] <= self._plan.found.first:
            after = int(np.searchsorted(numbers, self._plan.found.first, side="right"))
            lines, numbers = lines[after:], numbers[after:]
        if b"" in lines:
            numbers = numbers[[bool(line) for line in lines]]
            lines = [line for line in lines if line]
        if not lines:
            return
        try:
            whole = b"\n".join(lines)
            text = whole.decode()
        except UnicodeDecodeError:
            if self._layout.encoding:
                text = whole.decode("utf-8", "replace")
            else:
                raise NotUtf8(whole) from None
        if self._layout.form != "table":
            return self._take_named(text.split("\n"), numbers)
        clean = len(whole.translate(None, CONTROLS)) == len(whole)
        columns = self._at_once(text, len(lines)) if clean else None
        if columns is None:
            columns, numbers = self._one_by_one(text.split("\n"), numbers, ended)
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
        rows, kept, width = [], [], self._width
        for line, number in zip(lines, numbers.tolist()):
            line = NOISE.sub("", line).strip(" \r\n")
            if not line or (self._comment and line.startswith(self._comment)):
                continue
            try:
                cells = split(line, self._layout.separator)
            except NoSample:
                cells = []
            while len(cells) > width and cells[-1] == "":
                cells.pop()
            if not any(cells) and cells:
                continue
            if self._header and cells == self._header:
                self._found.again.add(number, "the header again")
                continue
            if len(cells) != width:
                if len(cells) < width and not ended:
                    self._found.torn.add(number, shown(line, 60))
                    continue
                if not 2 <= len(cells) < width:
                    (self._found.remarks if len(cells) == 1 else self._found.bad).add(number, shown(line, 60))
                    continue
                self._found.short.add(number, shown(line, 60))
                cells += [""] * (width - len(cells))
            rows.append(cells)
            kept.append(number)
        columns = [list(column) for column in zip(*rows)]
        return columns, np.array(kept, np.int64)

    def _take_named(self, lines: list[str], numbers: np.ndarray) -> None:
        rows, kept = [], []
        for line, number in zip(lines, numbers.tolist()):
            if not line.strip() or (self._comment and line.startswith(self._comment)):
                continue
            try:
                rows.append(named_cells(line, self._layout))
                kept.append(number)
            except NoSample:
                self._found.bad.add(number, shown(line.strip(), 60))
        if not rows:
            return
        columns: list[Any] = [[None] * len(rows) if i in self._used else None for i in range(self._width)]
        for i, row in enumerate(rows):
            for name, value in row.items():
                place = self._index.get(name)
                if place is None:
                    self._found.late[name] += 1
                elif (column := columns[place]) is not None:
                    column[i] = value
        self._found.take(columns, np.array(kept, np.int64))


def named_cells(line: str, layout: Layout) -> dict[str, Any]:
    """Names and values of a line that names its own.

    Raises NoSample where it has none.
    """
    cells = cells_of(line, layout, lambda found: True)
    if isinstance(cells, list):
        return {f"s{i}": cell for i, cell in enumerate(cells, 1)}
    return cells
