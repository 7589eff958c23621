"""What the next model is trained on: record, events and marks of a span in one ZIP file."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from edgekd.runtime.errors import UsageError
from edgekd.runtime.gateway.page.history import EVENTS_KEPT
from edgekd.runtime.gateway.page.queries import events, marks
from edgekd.runtime.json_fields import shown
from edgekd.runtime.layout import Layout
from edgekd.runtime.sources.time_labels import TimeLabels

MARKS_HEADER = ("stream", "start", "end", "mark", "note")
LONGEST_LINE = 2**20  # bytes
CHUNK_BYTES = 2**16
TRIED_LINES = 1000  # in a row that hold no time


def write_download(
    to: Any, db: sqlite3.Connection, stream: str, begin: float, end: float, record: str | None, layout: Layout
) -> None:
    """marks.csv, events.jsonl and record.csv, into a file that need not be seekable. Raises UsageError before that."""
    cut = Cut(record, layout, begin, end) if record else None
    with zipfile.ZipFile(to, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        with archive.open("marks.csv", "w") as file:
            text = io.TextIOWrapper(file, "utf-8", newline="")
            csv.writer(text, lineterminator="\n").writerows([MARKS_HEADER, *marks(db, stream, begin, end)])
            text.flush()
        with archive.open("events.jsonl", "w") as file:
            for event in reversed(events(db, stream, begin, end, EVENTS_KEPT)):
                del event["at"]
                file.write(json.dumps(event).encode() + b"\n")
        if cut:
            with archive.open("record.csv", "w", force_zip64=True) as file:
                for piece in cut:
                    file.write(piece)


class Cut:
    """The rows of a record between two times; it is taken to be in their order."""

    def __init__(self, path: str, layout: Layout, begin: float, end: float) -> None:
        """Raises UsageError where the record cannot be read, or its times."""
        self._layout = layout
        try:
            self._file: BinaryIO = Path(path).open("rb")  # noqa: SIM115 - closed at the end of `__iter__`
            self._header = self._file.readline(LONGEST_LINE)
            self._size = self._file.seek(0, 2)
            if self._size > len(self._header) and self._time_at(len(self._header))[1] is None:
                raise UsageError(f"the times of {shown(path, 300)} cannot be read; copy the whole file instead")
            self._begin, self._end = self._first_at(begin), self._first_at(end)
        except OSError as error:
            raise UsageError(f"{shown(path, 300)}: {error.strerror}") from None

    def __iter__(self) -> Iterator[bytes]:
        with self._file:
            yield self._header
            self._file.seek(self._begin)
            left = self._end - self._begin
            while left > 0 and (piece := self._file.read(min(left, CHUNK_BYTES))):
                left -= len(piece)
                yield piece

    def _first_at(self, wanted: float) -> int:
        """Where the first row of that time or a later one begins, by halving; the end of the last whole row if none."""
        low, high = len(self._header), self._size
        while low < high:
            middle = (low + high) // 2
            start, time = self._time_at(self._line_from(middle))
            if time is None or time >= wanted:
                high = middle
            else:
                low = start + 1
        return self._line_from(low)

    def _line_from(self, at: int) -> int:
        """Where the first line begins that begins there or later; the end of the last whole one if none does."""
        if at <= len(self._header):
            return len(self._header)
        self._file.seek(at - 1)
        self._file.readline(LONGEST_LINE)
        return self._file.tell()

    def _time_at(self, start: int) -> tuple[int, float | None]:
        """Of the first line from there that has a time: where it begins, and its time; None where there is none."""
        self._file.seek(start)
        for _ in range(TRIED_LINES):
            start = self._file.tell()
            line = self._file.readline(LONGEST_LINE)
            if not line.endswith(b"\n"):
                break
            label = next(csv.reader([line.decode(errors="replace")]))[0]
            time = TimeLabels(self._layout, likely=True).seconds(label)
            if time is not None:
                return start, time
        return start, None
