"""`--record`: what the sensors said, as a CSV that the next student can be distilled from."""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgekd.runtime.errors import UsageError
from edgekd.runtime.json_fields import shown


class Recorder:
    """Appends one row a sample; missing values stay empty. Raises UsageError where the file holds something else."""

    def __init__(self, path: str | Path, names: Sequence[str]) -> None:
        header = _line(["time", *names])
        try:
            self._file = Path(path).open("a+b")  # noqa: SIM115 - open as long as the recorder is used
            self._file.seek(0)
            found = self._file.readline(len(header) + 1)
            if found not in (b"", header):
                raise UsageError(f"{shown(str(path), 300)}: holds other columns than this model's; give another file")
            if not found:
                self._file.write(header)
            else:
                self._drop_torn_line()
        except OSError as error:
            raise UsageError(f"{shown(str(path), 300)}: {error.strerror}; give a file that can be written") from None

    def write(self, values: np.ndarray, time: str | float | None) -> None:
        """One sample: float32 (n,) raw units. Raises OSError where the disk does not take it."""
        cells = ["" if value != value else str(value) for value in values]
        self._file.write(_line(["" if time is None else str(time), *cells]))

    def flush(self) -> None:
        """Hand what is buffered to the system."""
        self._file.flush()

    def close(self) -> None:
        """Flush and close; a full disk is not told twice."""
        with contextlib.suppress(OSError):
            self._file.close()

    def _drop_torn_line(self) -> None:
        """A power cut leaves half a line; a reader would take it for a short row."""
        end = self._file.seek(0, 2)
        start = max(0, end - 2**20)
        self._file.seek(start)
        tail = self._file.read()
        self._file.truncate(start + tail.rfind(b"\n") + 1)
        self._file.seek(0, 2)


def _line(cells: list[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode()
