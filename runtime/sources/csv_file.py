"""A CSV or JSON-lines file, from its first sample or from the one after a saved state."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from edgekd.runtime.errors import InputLost, UsageError
from edgekd.runtime.manifest import Manifest, shown
from edgekd.runtime.parse import Row
from edgekd.runtime.sources import InputEvent, RowReader

CHUNK_BYTES = 65536


class CsvFile:
    """Reads a file once, front to back. Raises UsageError where it cannot be opened or its first line does not fit."""

    live = False

    def __init__(self, path: str | Path, manifest: Manifest, columns: dict[str, str]) -> None:
        self.name = str(path)
        self.rows = RowReader(manifest, columns, "fits", shown(self.name, 300))
        self._skip = 0
        try:
            self._file = Path(path).open("rb")  # noqa: SIM115 - open as long as the source is read
            self._file.peek(1)
        except OSError as error:
            raise UsageError(
                f"{shown(self.name, 300)}: {error.strerror}; give a CSV file with the model's sensors"
            ) from None

    def seek(self, sample: int) -> None:
        """Leave out the first `sample` samples. They are parsed to be counted, so bad lines shift nothing."""
        self._skip = sample

    def __iter__(self) -> Iterator[Sequence[Row | InputEvent]]:
        with self._file:
            while data := self._read():
                yield self._left(self.rows.feed(data))
            yield self._left(self.rows.end())

    @property
    def skipped_short(self) -> int:
        """How many samples the file lacked to reach the one that was sought."""
        return self._skip

    def _left(self, rows: list[Row]) -> list[Row]:
        skip = min(self._skip, len(rows))
        self._skip -= skip
        return rows[skip:]

    def _read(self) -> bytes:
        try:
            return self._file.read1(CHUNK_BYTES)
        except OSError as error:
            raise InputLost(f"{shown(self.name, 300)}: cannot be read further ({error.strerror})") from None
