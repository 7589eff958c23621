"""`--record`: what the sensors said, as a CSV that the next student can be distilled from."""

from __future__ import annotations

import contextlib
import csv
import io
import time
from pathlib import Path

from edgekd.runtime.errors import UsageError
from edgekd.runtime.json_fields import shown
from edgekd.runtime.loop import Loop, Watcher
from edgekd.runtime.sources import Row

FLUSH_S = 1.0


class Recorder(Watcher):
    """Appends one row a sample; missing values stay empty. A disk that takes no more is told once and stops nothing."""

    def __init__(self, loop: Loop, path: str | Path) -> None:
        self._loop = loop
        self._flush_due = 0.0
        header = _line(["time", *loop.detector.manifest.names])
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

    def sample(self, row: Row) -> None:
        """Write one sample down."""
        if self._file.closed:
            return
        label = self._loop.time_of(row)
        cells = ["" if value != value else str(value) for value in row.values]
        try:
            self._file.write(_line(["" if label is None else str(label), *cells]))
            if time.monotonic() >= self._flush_due:
                self._flush_due = time.monotonic() + FLUSH_S
                self._file.flush()
        except OSError as error:
            self._loop.say(f"cannot record any further: {error.strerror}; detection goes on")
            self._loop.emit({"event": "record_stopped", "reason": error.strerror})
            self.end()

    def end(self) -> None:
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
