"""A CSV or JSON-lines file, from its first sample or from the one after a saved state."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edgekd.runtime.errors import InputLost, UsageError
from edgekd.runtime.json_fields import shown
from edgekd.runtime.manifest import Manifest
from edgekd.runtime.sources import CHUNK_BYTES, InputEvent, Items, Row, Source
from edgekd.runtime.sources.row_parser import PLAIN, Layout
from edgekd.runtime.sources.row_reader import RowReader


class CsvFile(Source):
    """Reads a file once, front to back. Raises UsageError where it cannot be opened or its first line does not fit."""

    live = False

    def __init__(self, path: str | Path, manifest: Manifest, columns: dict[str, str], layout: Layout = PLAIN) -> None:
        self.name = str(path)
        self._shown = shown(self.name, 300)
        self.rows: RowReader = RowReader(manifest, columns, "fits", self._shown, layout)
        self._skip = 0
        self._hop = manifest.hop
        self._missing = np.full(len(manifest.sensors), np.nan, np.float32)
        self._count = 0
        try:
            self._file = Path(path).open("rb")  # noqa: SIM115 - open as long as the source is read
            self._file.peek(1)
        except OSError as error:
            raise UsageError(f"{self._shown}: {error.strerror}; give a CSV file with the model's sensors") from None

    def seek(self, sample: int) -> None:
        """Leave out the first `sample` samples. They are parsed to be counted, so bad lines shift nothing."""
        self._skip = sample

    def __iter__(self) -> Iterator[Items]:
        with self._file:
            try:
                while data := self._file.read1(CHUNK_BYTES):
                    yield self._left(self.rows.feed(data))
            except OSError as error:
                raise InputLost(f"{self._shown}: cannot be read further ({error.strerror})") from None
            yield self._left(self.rows.end())

    def _left(self, items: Items) -> list[Row | InputEvent]:
        """What is not to be skipped. Before a gap the hop is filled up, so that every run counts the samples alike."""
        left: list[Row | InputEvent] = []
        for item in items:
            if isinstance(item, InputEvent) and item.rewarm:
                left += self._left([Row(self._missing)] * (-self._count % self._hop))
            if self._count >= self._skip:
                left.append(item)
            self._count += isinstance(item, Row)
        return left
