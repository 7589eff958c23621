"""A recording in a file, from its first sample or from the one after a saved state."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import numpy as np

from edgekd.runtime.errors import InputLost, UsageError
from edgekd.runtime.json_fields import shown
from edgekd.runtime.layout import PLAIN, Layout
from edgekd.runtime.manifest import Manifest
from edgekd.runtime.sources import InputEvent, Items, Row, Source
from edgekd.runtime.sources.open_file import chunks
from edgekd.runtime.sources.row_reader import RowReader


class CsvFile(Source):
    """Reads a file once, front to back. Raises UsageError where it cannot be opened or its lines do not fit.

    likely: the layout may be another file's, the one of the training: it is taken as far as it fits this one.
    """

    live = False

    def __init__(
        self, path: str, manifest: Manifest, columns: dict[str, str], layout: Layout = PLAIN, likely: bool = False
    ) -> None:
        self.name = str(path)
        self._shown = shown(self.name, 300)
        try:
            pieces = chunks(path, layout.encoding)
            first = next(pieces, b"")
        except OSError as error:
            raise UsageError(f"{self._shown}: {error.strerror}; give a CSV file with the model's sensors") from None
        self._chunks = chain([first], pieces)
        likely = likely and not _fits(layout, manifest, columns, first)
        layout = layout.without_text() if likely else layout
        self.rows: RowReader = RowReader(manifest, columns, "fits", self._shown, layout, likely=likely)
        self._sorted = layout.sort or bool(layout.tag)
        self._skip = 0
        self._hop = manifest.hop
        self._missing = np.full(len(manifest.sensors), np.nan, np.float32)
        self._count = 0

    def seek(self, sample: int) -> None:
        """Leave out the first `sample` samples. They are parsed to be counted, so bad lines shift nothing."""
        self._skip = sample

    def __iter__(self) -> Iterator[Items]:
        rows: list[Row] = []  # of a file that is to be sorted, all of them
        try:
            for data in self._chunks:
                rows += self.rows.rows_of(self.rows.splitter.feed(data))
                if self.rows.parser.rows and not self._sorted:  # else nothing is to be said but why there are none
                    yield self._left(self.rows.samples_of(rows))
                    rows = []
        except OSError as error:
            raise InputLost(f"{self._shown}: cannot be read further ({error.strerror})") from None
        rows += self.rows.rows_of(self.rows.splitter.end(), whole=False)
        last = self.rows.samples_of(in_order(rows) if self._sorted else rows) + self.rows.end()
        self.rows.parser.require_rows()
        yield self._left(last)

    def _left(self, items: Items) -> Items:
        """What is not to be skipped. Before a gap the hop is filled up, so that every run counts the samples alike."""
        if self._count >= self._skip and all(isinstance(item, Row) for item in items):
            self._count += len(items)
            return items
        left: list[Row | InputEvent] = []
        for item in items:
            fill = -self._count % self._hop if isinstance(item, InputEvent) and item.rewarm else 0
            for each in (*[Row(self._missing)] * fill, item):
                if self._count >= self._skip:
                    left.append(each)
                self._count += isinstance(each, Row)
        return left


def in_order(rows: list[Row]) -> list[Row]:
    """Rows sorted by time, those of one moment made one; rows without a time are left out."""
    found: dict[float, Row] = {}
    for row in rows:
        if row.seconds is not None and (first := found.setdefault(row.seconds, row)) is not row:
            first.values = np.where(np.isnan(first.values), row.values, first.values)
    return [found[at] for at in sorted(found)]


def _fits(layout: Layout, manifest: Manifest, columns: dict[str, str], head: bytes) -> bool:
    """Whether the first piece of a file holds rows of this layout."""
    try:
        reader = RowReader(manifest, columns, layout=layout)
    except UsageError:  # the layout's names are others
        return False
    return bool(reader.rows_of(reader.splitter.feed(head)))
