"""One line of text to one row of samples: CSV, a JSON object, or a JSON array.

Columns are matched by name where the line's source names them (a CSV header, JSON keys), by position otherwise. Other
columns are ignored, so that a labelled recording can be replayed as it is.
"""

from __future__ import annotations

import contextlib
import csv
import json
import re
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import numpy as np

from edgekd.runtime.errors import UsageError
from edgekd.runtime.json_fields import shown
from edgekd.runtime.sources import NoSample, Row, Tally

TIME_NAMES = ("time", "timestamp", "datetime", "date", "ts", "t")
MISSING = frozenset(("", "nan", "na", "n/a", "null", "none", "-", "?"))  # how loggers write "no value", lower case
FirstLine = Literal["fits", "header fits", "anything"]
Rule = Literal["mean", "last"]
Places = tuple[Sequence[int], int | None, int | None]
"""Where in a CSV line the sensors' values stand, the time label, and the count."""
_CHECKED = re.compile(rb"(.+)\*([0-9a-fA-F]{2})", re.DOTALL)


@dataclass(frozen=True)
class Layout:
    """What the lines of an input carry beside the sensors' values."""

    checksum: bool = False
    """Each line ends in * and two hexadecimal digits, the XOR of what stands before (after a leading $)."""
    sequence: str | None = None
    """Column that counts the samples. Without names it is the first of n + 1."""
    sequence_wraps_at: int | None = None
    """One more than the largest count; None: 8, 16, 32 or 64 bits."""
    time: str | None = None
    """Column of the time label; None: one with a usual name."""
    resample: Rule | None = None
    """Rows do not come at the model's period: what becomes of those that share one."""


PLAIN = Layout()


class RowParser:
    """Lines of one input to rows of one model.

    names: n sensor names in column order. columns: sensor name -> the source's name for it, where they differ.
    first_line says what the first line must be: "fits" (a file: a header with every sensor, or a row), "header fits"
    (if it is a header, then one with every sensor), "anything" (a serial line, where noise comes first). UsageError
    where it is not; every other line that is no row is counted in `tally` and skipped.
    """

    def __init__(
        self,
        names: Sequence[str],
        columns: Mapping[str, str] | None = None,
        first_line: FirstLine = "anything",
        source: str = "input",
        layout: Layout = PLAIN,
        tally: Tally | None = None,
    ) -> None:
        self.tally = tally or Tally()
        self.lines = 0
        """Lines so far, empty ones not counted."""
        self.unreadable = 0
        """Those of them that were neither rows nor headers."""
        self._names = tuple(names)
        self._n = len(names)
        self._columns = tuple((columns or {}).get(name, name) for name in names)
        self._wanted = frozenset(self._columns)
        self.limit = max(4096, sum(len(column) + 36 for column in self._columns))
        """Bytes of the longest line: 32 characters a number, and JSON repeats the names."""
        self._mapped = bool(columns)
        self._rule = first_line
        self._source = source
        self._places: Places | None = None  # by the names of a header
        self._width = 0
        self._offered = False  # the column names are from a line that may be torn
        self._layout = layout
        self._short_way = False  # the columns are known, as in the line before

    def parse(self, line: bytes) -> Row | None:
        """The row in a line; None for a header, an empty line, or one that is no row."""
        text = line.strip()
        if not text and len(line) <= self.limit:
            return None
        self.lines += 1
        try:
            if len(line) > self.limit:
                raise NoSample(f"longer than {self.limit} bytes")
            if self._layout.checksum:
                text = _without_checksum(text)
            decoded = text.decode()
            if self._short_way and (row := self._quick(decoded)) is not None:
                return row
            decoded = decoded.removeprefix("\ufeff")
            if decoded[:1] not in ("{", "["):
                return self._csv(_split(decoded))
            value = _json(decoded)
            return self._object(value) if isinstance(value, dict) else self._array(value)
        except (NoSample, UnicodeDecodeError) as error:
            reason = str(error) if isinstance(error, NoSample) else "not UTF-8 text"
        self.unreadable += 1
        self.tally.refuse(reason)
        if self.lines == 1 and self._rule == "fits":
            wanted = f"neither a header with the model's sensors nor a row of {self._n} numbers"
            raise UsageError(f"{self._source}, line 1: {wanted} ({reason})")
        return None

    def offer_header(self, line: bytes) -> None:
        """A line that may be torn: take its column names if every sensor's is among them, else leave it."""
        text = line.strip()
        if self._layout.checksum:
            text = text.removeprefix(b"$").partition(b"*")[0]
        with contextlib.suppress(NoSample, UnicodeDecodeError):
            self._offered = self._take_header(_split(text.decode().removeprefix("\ufeff")))

    def _quick(self, text: str) -> Row | None:
        """A short way to the same row, for lines that are all plain numbers at known places; None for others."""
        if ";" in text or '"' in text or "_" in text:
            return None
        fields = text.split(",")
        if len(fields) != self._width:
            return None
        picked, time_at, sequence_at = self._places or (None, None, None)
        try:
            numbers = map(float, fields if picked is None else [fields[i] for i in picked])
            values = np.frombuffer(array("f", numbers), np.float32)  # beyond float32 is infinite: missing
            sequence = None if sequence_at is None else _sequence(fields[sequence_at].strip())
        except ValueError:
            return None
        time = (fields[time_at].strip() or None) if time_at is not None else None
        return Row(values, time, None, sequence)

    def _csv(self, fields: list[str]) -> Row | None:
        self._short_way = False
        if self.lines == 1 and self._take_header(fields):  # asked first: sensors may be named 0, 1, 2 …
            return None
        try:
            row = self._csv_row(fields)
        except NoSample:
            if self._take_header(fields):
                return None
            self._refuse_header(fields)
            raise
        self._short_way = self._places is not None or len(fields) == self._n
        self._width = len(fields)
        return row

    def _csv_row(self, fields: list[str]) -> Row:
        if self._offered and len(fields) != self._width:
            self._places, self._offered = None, False  # it was torn after all
        count, n, places = len(fields), self._n, self._places
        if places:
            if count != self._width:
                raise NoSample(f"{count} columns, the header has {self._width}")
        elif self._mapped or self._layout.time:
            raise NoSample(f"no header yet, and --{'map' if self._mapped else 'time'} goes by its names")
        elif self._layout.sequence:
            if count != n + 1:
                raise NoSample(f"{count} columns and no header, the model has {n} sensors and a sequence")
            places = range(1, n + 1), None, 0
        elif count == n or (count == n + 1 and not fields[-1]):  # firmware that ends every line with a separator
            places = range(n), None, None
        elif count == n + 1 and not _is_number(fields[0]) and seconds_of(fields[0]) is not None:
            places = range(1, n + 1), 0, None
        else:
            raise NoSample(f"{count} columns and no header, the model has {n} sensors")
        picked, time_at, sequence_at = places
        time = None if time_at is None else fields[time_at] or None
        sequence = None if sequence_at is None else _sequence(fields[sequence_at])
        return Row(_numbers([fields[i] for i in picked]), time, None, sequence)

    def _take_header(self, fields: list[str]) -> bool:
        if not self._wanted <= set(fields):
            return False
        if any(fields.count(name) > 1 for name in self._wanted):
            raise NoSample("the header names a sensor's column twice")
        for option, column in (("--time", self._layout.time), ("--sequence", self._layout.sequence)):
            if column is not None and column not in fields:
                raise NoSample(f"the header lacks '{shown(column, 40)}', the column of {option}")
        self._offered, self._width = False, len(fields)
        sequence_at = None if self._layout.sequence is None else fields.index(self._layout.sequence)
        time_at = _time_column(fields, self._wanted, self._layout.time)
        self._places = [fields.index(name) for name in self._columns], time_at, sequence_at
        return True

    def _refuse_header(self, fields: list[str]) -> None:
        """Raise where a line that lacks sensors is a header, for other columns."""
        textual = len(fields) >= max(self._n, 2) and not any(_is_number(f) or f.lower() in MISSING for f in fields)
        if not textual and self._wanted.isdisjoint(fields):
            return
        lacking = [name for name, column in zip(self._names, self._columns) if column not in fields]
        listed = ", ".join(f"'{shown(name, 40)}'" for name in lacking[:5])
        more = f" and {len(lacking) - 5} more" if len(lacking) > 5 else ""
        message = f"the header lacks {listed}{more}; name its column with --map '{lacking[0]}=COLUMN'"
        if self.lines == 1 and self._rule != "anything":
            raise UsageError(f"{self._source}, line 1: {message}")
        raise NoSample(message)

    def _object(self, value: Any) -> Row:
        if self._wanted.isdisjoint(value):
            raise NoSample("the object has none of the model's sensors")
        numbers = _numbers([value.get(column) for column in self._columns])
        sequence = None if self._layout.sequence is None else _sequence(value.get(self._layout.sequence))
        named = (key for key in value if key not in self._wanted and key.lower() in TIME_NAMES)
        time = value.get(self._layout.time or next(named, None))
        usable = time if isinstance(time, str) else type(time) in (int, float) and abs(time) < 1e18
        return Row(numbers, time if usable else None, None, sequence)

    def _array(self, value: Any) -> Row:
        sequence = None
        if self._layout.sequence is not None and value:
            sequence, value = _sequence(value[0]), value[1:]
        if len(value) != self._n:
            raise NoSample(f"{len(value)} values, the model has {self._n} sensors")
        return Row(_numbers(value), None, None, sequence)


def seconds_of(time: str | float | None) -> float | None:
    """A time label as seconds (ISO 8601, or a number of s, ms or µs since the epoch), None where it is neither."""
    if time is None:
        return None
    with contextlib.suppress(ValueError, OverflowError, OSError):
        try:
            value = float(time)
        except ValueError:
            return datetime.fromisoformat(str(time)).timestamp()
        if abs(value) < 1e18:
            # The year 5138 is 1e11 seconds away; in milliseconds that number was 1973, before anybody logged any.
            return value if abs(value) < 1e11 else value / 1e3 if abs(value) < 1e14 else value / 1e6
    return None


def _split(text: str) -> list[str]:
    """The fields of a CSV line; a semicolon anywhere makes that the separator, and a comma the decimal point."""
    try:
        fields = next(csv.reader([text], delimiter=";" if ";" in text else ","))
    except (csv.Error, StopIteration):
        raise NoSample("quotes do not match") from None
    return [field.strip() for field in fields]


def _numbers(values: Sequence[Any]) -> np.ndarray:
    """float32 (n,) of CSV fields or JSON values, NaN where one says that there is none; beyond float32 is infinite."""
    try:
        numbers = array("f", values)  # the short way: nothing but numbers
    except (TypeError, OverflowError):
        numbers = array("f", map(_number, values))
    return np.frombuffer(numbers, np.float32)


def _number(value: Any) -> float:
    try:
        if not isinstance(value, str):
            return float("nan") if value is None else float(value)
    except (TypeError, OverflowError):
        raise NoSample("a sensor's value is no number") from None
    text = value.strip()
    if text.lower() in MISSING:
        return float("nan")
    if "_" in text or not _is_number(text):  # the former is Python's own spelling of numbers, nobody else's
        raise NoSample(f"'{shown(text, 40)}' is no number")
    return float(text.replace(",", "."))


def _is_number(text: str) -> bool:
    with contextlib.suppress(ValueError):
        float(text.replace(",", "."))
        return True
    return False


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise NoSample("neither JSON nor CSV") from None


def _sequence(value: Any) -> int:
    text = value if isinstance(value, str) else repr(value)
    if text.isascii() and text.isdigit() and len(text) <= 20 and int(text) < 2**64:
        return int(text)
    raise NoSample(f"the sequence '{shown(text, 40)}' is no count")


def _without_checksum(line: bytes) -> bytes:
    """The line before its * and checksum; raises NoSample where that is missing or wrong."""
    found = _CHECKED.fullmatch(line.removeprefix(b"$"))
    if found is None:
        raise NoSample("there is no checksum at its end, * and two hexadecimal digits")
    if int(found[2], 16) != np.bitwise_xor.reduce(np.frombuffer(found[1], np.uint8)):
        raise NoSample("its checksum is wrong")
    return found[1]


def _time_column(fields: list[str], wanted: frozenset[str], name: str | None) -> int | None:
    if name is not None:
        return fields.index(name)
    lowered = [field.lower() for field in fields]
    found = (lowered.index(name) for name in TIME_NAMES if name in lowered)
    return next((i for i in found if fields[i] not in wanted), None)
