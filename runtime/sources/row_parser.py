"""One line of text to one row of samples, by the layout of its logger.

Columns are matched by name where the line's source names them (a header, the layout, JSON keys, NAME=VALUE), else by
position. Other columns are ignored, so that a labelled recording can be replayed as it is.
"""

from __future__ import annotations

import contextlib
from array import array
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, NoReturn

import numpy as np

from edgekd.runtime.errors import UsageError
from edgekd.runtime.json_fields import shown
from edgekd.runtime.layout import PLAIN, Layout
from edgekd.runtime.sources import NoSample, Row, Tally
from edgekd.runtime.sources.cells import NAN, Boolean, Cells, Condition
from edgekd.runtime.sources.lines import cells_of, split, without_checksum
from edgekd.runtime.sources.time_labels import TIME_NAMES, TimeLabels

FirstLine = Literal["fits", "header fits", "anything"]
LINES_BEFORE = 100
"""Lines of a file that may stand before its header, or its first row."""


class Places(NamedTuple):
    """Where in a line's cells things stand: numbers in a list, names in a dict."""

    sensors: Sequence[Any]
    time: Sequence[Any] = ()
    sequence: Any = None
    group: Any = None
    only: Sequence[Any] = ()
    tag: Any = None
    value: Any = None


class RowParser:
    """Lines of one input to rows of one model.

    names: n sensor names in column order. columns: sensor name -> the source's name for it, where they differ.
    switches: sensors that may say ON or OFF, true or false; for all others that is no value.
    likely: the layout is that of the training: this input may lack its time or tag columns.
    first_line: "fits" (a header with every sensor, or a row, perhaps after other lines), "header fits" (if it is a
    header, then one with every sensor), or "anything" (noise may come first). UsageError where it does not fit; every
    other line that is no row is counted in `tally` and skipped.
    """

    def __init__(
        self,
        names: Sequence[str],
        columns: Mapping[str, str] | None = None,
        first_line: FirstLine = "anything",
        source: str = "input",
        layout: Layout = PLAIN,
        tally: Tally | None = None,
        switches: frozenset[str] = frozenset(),
        likely: bool = False,
    ) -> None:
        self.tally = tally or Tally()
        self.lines = 0  # lines so far, empty ones and comments not counted
        self.unreadable = 0  # those of them that were neither rows nor headers
        self.rows = 0
        self.times = TimeLabels(layout, likely)
        self.layout = layout
        self._names = tuple(names)
        self._n = len(names)
        self._columns = tuple((columns or {}).get(name, name) for name in names)
        self._wanted = frozenset(self._columns)
        self._switch = [name in switches for name in names]
        self.limit = max(4096, sum(len(column) + 36 for column in self._columns))
        """Bytes of the longest line: 32 characters a number, and JSON repeats the names."""
        self._mapped = bool(columns)
        self._rule = first_line
        self._likely = likely
        self._strict = bool(layout.time) and layout.time_format not in ("", "none") and not likely
        self._source = source
        self.aliases: dict[str, str] = {}  # column -> the name that takes its place in messages that lack it
        self._cells = Cells(layout)
        self._only = [Condition(text) for text in layout.only]
        self._group, _, self._machine = layout.group.partition("=")
        self.kind = "d" if layout.difference else "f"  # steps of a large count are lost in float32
        self._comments = (layout.comment.encode(),) if layout.comment else ()
        self._skip = layout.skip if layout.names else 0
        self._places: Places | None = None  # by names, of a header or the layout's
        self.width = 0
        self._keys, self._at_keys = tuple[str, ...](), Places(())  # names in the newest message, and their places
        # what a new header replaced, until a row fits the new one
        self._before: tuple[Places | None, int] | None = None
        self.quick: tuple[str, Places] | None = None  # separator and places, while lines are plain numbers
        self._why = self._header_lacks = ""  # why the first line that was no row is none; a header, no sensors'
        self.ask_time(not likely)

    def ask_time(self, asked: bool = True) -> None:
        """Whether the layout's time has to be there. Raises UsageError where the layout's own names do not do."""
        self.asks_time = asked
        names = self.layout.names
        try:
            if names and not self._take_header(list(names)) and not self._likely:
                raise NoSample(self._lacking(names))
            if names and asked and not {*self.layout.time} <= {*names}:
                raise NoSample(f"there is no '{shown(' '.join(self.layout.time), 40)}', the column of --time")
        except NoSample as error:
            raise UsageError(f"{self._source}, the layout's names: {error}") from None

    def parse(self, line: bytes, whole: bool = True) -> Row | None:
        """The row in a line; None where it is none. whole: it is not the last of a file, which may be torn."""
        bare = line.strip()
        if len(line) <= self.limit and (not bare or line.lstrip().startswith(self._comments)):
            return None
        self.lines += 1
        if self.lines <= self._skip:
            return None
        try:
            if len(line) > self.limit:
                raise NoSample(f"longer than {self.limit} bytes")
            text = (without_checksum(bare) if self.layout.checksum else line).decode()
            row = self._short_way(text) or self._long_way(text.removeprefix("\ufeff"), whole)
            self.rows += row is not None
            return row
        except UnicodeDecodeError:
            reason = "not UTF-8 text"
        except NoSample as error:
            reason = str(error)
        self.unreadable += 1
        if self._rule != "fits" or self.rows or (self._places and bare[:1].isdigit()):  # else before a file's rows
            self.tally.refuse(reason)
        self._why = self._why or f"line {self.lines}: {reason}"
        if self._rule == "fits" and not self.rows and self.lines >= LINES_BEFORE:
            self.require_rows()
        return None

    def require_rows(self) -> None:
        """Raise UsageError where nothing so far was a row, with what the first line lacks."""
        if not self.rows and self._why:
            wanted = f"neither a header with the model's sensors nor a row of {self._n} numbers"
            raise UsageError(f"{self._source}: {self._header_lacks or f'{wanted} ({self._why})'}")

    def offer_header(self, line: bytes) -> None:
        """A line that may be torn: take its column names if every sensor's is among them, else leave it."""
        text = line.strip()
        if self.layout.checksum:
            text = text.removeprefix(b"$").partition(b"*")[0]
        with contextlib.suppress(NoSample, UnicodeDecodeError):
            header = split(text.decode().removeprefix("\ufeff"), self.layout.separator)
            if self._take_header(header) and self._before is None:
                self._before = None, 0

    def _short_way(self, text: str) -> Row | None:
        """The same row, quickly, where all cells are plain numbers at known places; None for others."""
        if self.quick is None or '"' in text or "_" in text:
            return None
        separator, places = self.quick
        fields = text.split(separator)
        if len(fields) != self.width:
            return None
        try:
            values = np.frombuffer(array(self.kind, map(float, [fields[i] for i in places.sensors])), self.kind)
        except ValueError:
            return None
        label = seconds = None
        if places.time:
            label = fields[places.time[0]].strip()
            seconds = self.times.seconds(label)
            if seconds is None:
                return None
        sequence = None if places.sequence is None else _sequence(fields[places.sequence].strip())
        return Row(values, label, None, sequence, seconds)

    def _long_way(self, text: str, whole: bool) -> Row | None:
        self.quick = None
        cells = cells_of(text, self.layout, self._knows)
        if isinstance(cells, dict):
            cells = {column: cells[name] for column, name in self.aliases.items() if name in cells} | cells
            if not self._knows(cells):
                raise NoSample("none of the model's sensors is in it")
            if (keys := tuple(cells)) != self._keys:
                self._keys, self._at_keys = keys, self._by_name({name: name for name in keys})
            return self._row(cells, self._at_keys)
        nameable = not self.layout.names and all(isinstance(cell, str) for cell in cells)
        if nameable and self.lines == 1 and self._take_header(cells):  # sensors may be named 0, 1, 2 …
            return None
        try:
            return self._table_row(cells, whole)
        except NoSample:
            if nameable and self._take_header(cells):
                return None
            if nameable and any(mark in text for mark in ",;\t|"):  # else it is prose
                self._refuse_header(cells)
            raise

    def _table_row(self, cells: list[Any], whole: bool) -> Row | None:
        if self._before and len(cells) != self.width and self._before[1] in (0, len(cells)):
            (self._places, self.width), self._before = self._before, None  # the new one was torn or damaged after all
        places, width, short = self._places, self.width, False
        if places is None:
            places = self._by_position(cells)
        else:
            while len(cells) > width and cells[-1] == "":
                cells.pop()
            short = self._rule == "fits" and whole and 2 <= len(cells) < width
            if len(cells) != width and not short:
                raise NoSample(f"{len(cells)} columns, the header has {width}")
            cells += [""] * (width - len(cells))
        row = self._row(cells, places)
        self._before = None
        if short and row is not None and np.isnan(row.values).all():
            raise NoSample("it holds no value")
        mark = self.layout.separator or ","
        simple = len(places.time) < 2 and places.tag is places.group is None and not places.only
        if row is not None and simple and self._cells.plain and mark != " " and isinstance(cells[0], str):
            self.width, self.quick = len(cells), (mark, places)
        return row

    def _row(self, cells: Any, places: Places) -> Row | None:
        pick = cells.get if isinstance(cells, dict) else cells.__getitem__
        if places.group is not None:
            machine = str(pick(places.group)).strip()
            self._machine = self._machine or machine
            if machine != self._machine and "=" in self.layout.group:
                return None
            if machine != self._machine:
                way = f"give a --layout group = '{self._group}={shown(self._machine, 40)}'"
                raise NoSample(f"'{shown(machine, 40)}' is another machine than the first; {way}")
        labels = [pick(place) for place in places.time]
        time = labels[0] if len(labels) == 1 else " ".join(map(str, labels)).strip()
        if time == "" or not (isinstance(time, str) or (isinstance(time, (int, float)) and abs(time) < 1e20)):
            time = None
        seconds = self.times.seconds(time)
        if isinstance(time, str) and not time.isprintable():  # it is written down, and told
            time = shown(time)
        if seconds is None and self._strict:
            raise NoSample(f"'{shown(time or '', 40)}' is no time of the form {self.layout.time_format}")
        if places.tag is None:
            values = [self._number(pick(place), i) for i, place in enumerate(places.sensors)]
        else:
            tag = str(pick(places.tag)).strip()
            if tag not in self._wanted:
                return None
            i, values = self._columns.index(tag), [NAN] * self._n
            values[i] = self._number(pick(places.value), i)
        sequence = None if places.sequence is None else _sequence(pick(places.sequence))
        numbers = np.frombuffer(array(self.kind, values), self.kind)
        off = not all(condition.holds(pick(place)) for condition, place in zip(self._only, places.only))
        partial = places.tag is not None or (isinstance(cells, dict) and not self._wanted <= cells.keys())
        return Row(numbers, time, None, sequence, seconds, off, partial)

    def _number(self, value: Any, i: int) -> float:
        try:
            return self._cells.number(value, self._switch[i])
        except Boolean as error:
            self.tally.refuse(f"{shown(self._columns[i], 40)}: {error}")
            return NAN

    def _knows(self, found: dict[str, Any]) -> bool:
        names = (*self._columns, *self.aliases.values(), self.layout.tag)
        return any(name in found for name in names if name)

    def _by_name(self, at: Mapping[str, Any]) -> Places:
        """Places of a line's names: what its source calls a cell -> where that is."""
        layout = self.layout
        asked = [("--sequence", layout.sequence), *(("only", condition.name) for condition in self._only)]
        if not self._likely:
            asked += [("group", self._group), ("tag", layout.tag), ("value", layout.value)]
        if self.asks_time and self._rule != "anything":
            asked += [("--time", name) for name in layout.time]
        if lacking := [(option, name) for option, name in asked if name and name not in at]:
            option, name = lacking[0]
            self._header_lacks = f"there is no '{shown(name, 40)}', the column of {option}"
            raise NoSample(self._header_lacks)
        time = [at[name] for name in layout.time if name in at]
        if not (time or (self.asks_time and layout.time)):
            usual = {name.lower(): place for name, place in at.items() if name not in self._wanted}
            time = [usual[name] for name in TIME_NAMES if name in usual][:1]
        return Places(
            [at.get(name, name) for name in self._columns],
            time,
            at.get(layout.sequence) if layout.sequence else None,
            at.get(self._group) if self._group else None,
            [at[condition.name] for condition in self._only],
            at.get(layout.tag) if layout.tag else None,
            at.get(layout.value),
        )

    def _by_position(self, cells: list[Any]) -> Places:
        """Places in a line without names."""
        layout, n = self.layout, self._n
        if self._header_lacks and self._rule == "fits":  # a file of other columns
            raise NoSample(self._header_lacks)
        if self._mapped or ((layout.tag or layout.time) and isinstance(cells[0], str) and not self._likely):
            option = "--map" if self._mapped else "--time" if layout.time else "tag"
            raise NoSample(f"no header yet, and {option} goes by its names")
        before = len(cells) - n  # cells before those of the sensors: a count, or a time label
        if layout.sequence:
            fits = before == 1
        elif before == 1 and cells[-1] == "":  # firmware that ends every line with a separator
            cells.pop()
            before, fits = 0, True
        else:
            label = cells[0] if before == 1 and isinstance(cells[0], str) and not self.reads(cells[0]) else None
            fits = before == 0 or self.times.seconds(label) is not None
        if not fits:
            what = " and a sequence" if layout.sequence else ""
            raise NoSample(f"{len(cells)} columns and no header, the model has {n} sensors{what}")
        first = dict.fromkeys([layout.sequence] if layout.sequence else layout.time, 0) if before else {}
        places = self._by_name(first | {column: before + i for i, column in enumerate(self._columns)})
        return places._replace(time=() if layout.sequence else range(before))

    def _take_header(self, fields: list[str]) -> bool:
        needed = self._needed(fields).values()
        if not set(fields).issuperset(needed):
            return False
        if any(fields.count(name) > 1 for name in needed):
            raise NoSample("the header names a sensor's column twice")
        try:
            places, before = self._by_name({name: i for i, name in enumerate(fields)}), (self._places, self.width)
        except NoSample as error:
            self._refuse(str(error))
        if self._places and self._places.time and not places.time and len(fields) == self.width:
            raise NoSample("the header lacks the time's column, which it had before")
        self._before = before if self._places else None
        self._places, self.width = places, len(fields)
        return True

    def _needed(self, fields: Sequence[str]) -> dict[str, str]:
        """What a header must name: column of each sensor, or those of tag and value."""
        tag, value = self.layout.tag, self.layout.value
        by_tag = tag and (tag in fields or not self._likely)
        return {tag: tag, value: value} if by_tag else dict(zip(self._names, self._columns))

    def _lacking(self, fields: Sequence[str]) -> str:
        """What a header lacks, and what to do."""
        lacking = [(name, column) for name, column in self._needed(fields).items() if column not in fields]
        listed = ", ".join(f"'{shown(column, 40)}'" for _, column in lacking[:5])
        more = f" and {len(lacking) - 5} more" if len(lacking) > 5 else ""
        name = lacking[0][0]
        hint = f"; name its column with --map '{name}=COLUMN'" if name in self._names else ""
        return f"the header lacks {listed}{more}{hint}"

    def _refuse_header(self, fields: list[str]) -> None:
        """Raise where a line that lacks sensors is a header, for other columns."""
        textual = len(fields) >= max(self._n, 2) and not any(self.reads(field) for field in fields)
        if textual or not self._wanted.isdisjoint(fields):
            self._refuse(self._lacking(fields))

    def _refuse(self, header_lacks: str) -> NoReturn:
        """Raise for a header that does not do."""
        self._header_lacks = header_lacks
        if self.lines == 1 and self._rule == "header fits":
            raise UsageError(f"{self._source}, line 1: {header_lacks}")
        raise NoSample(header_lacks)

    def reads(self, field: str) -> bool:
        """Whether a cell is a value, or says that there is none."""
        with contextlib.suppress(NoSample):
            self._cells.number(field, True)
            return True
        return False


def _sequence(value: Any) -> int:
    text = value if isinstance(value, str) else repr(value)
    if text.isascii() and text.isdigit() and len(text) <= 20 and int(text) < 2**64:
        return int(text)
    raise NoSample(f"the sequence '{shown(text, 40)}' is no count")
