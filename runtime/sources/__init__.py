"""Where samples come from. A source is an iterable; the loop is its only caller."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from edgekd.runtime.manifest import Manifest
from edgekd.runtime.sources.events import InputEvent as InputEvent
from edgekd.runtime.sources.gaps import Order
from edgekd.runtime.sources.line_splitter import LineSplitter
from edgekd.runtime.sources.resample import Resampler
from edgekd.runtime.sources.row_parser import PLAIN, FirstLine, Layout, Row, RowParser

CHUNK_BYTES = 16384
"""What is read at once. Of more, thousands of rows at once, uneven pieces tear holes into the heap that add up: with
64 KiB a run of two simulated hours grew by a quarter MiB."""
TICK_S = 0.25
END_S = 0.4  # a thread that hangs in a system call does not keep the process from ending
"""A source that has nothing yields nothing this often, so that the loop can save its state or stop."""


class Reader(Protocol):
    """What the loop asks of the reader behind a source."""

    @property
    def unit(self) -> str:
        """What bad ones are, for people."""

    @property
    def clocked(self) -> bool:
        """Whether its samples come at the model's period."""

    @property
    def bad(self) -> int:
        """Lines or images so far that were no sample."""

    @property
    def last_bad(self) -> str:
        """Why the newest of them was none."""


class Source(Protocol):
    """Rows of samples, with what happens to the input between them."""

    name: str
    """For people: the file or port as the user gave it."""
    live: bool
    """Whether samples come as they are measured: no seeking, and time goes on while nobody listens."""

    @property
    def rows(self) -> Reader:
        """The reader that the source's bytes go through; it counts what was no row."""

    def __iter__(self) -> Iterator[Sequence[Row | InputEvent]]:
        """What arrived since the last time, possibly nothing; ends when the input has ended for good."""

    def seek(self, sample: int) -> None:
        """Leave out the first `sample` samples; only where not `live`, and before iterating."""


class RowReader:
    """Bytes of one input to rows: a splitter, a parser, and what puts the rows in order or at the model's rate."""

    unit = "lines"

    def __init__(
        self,
        manifest: Manifest,
        columns: dict[str, str],
        first_line: FirstLine = "anything",
        source: str = "input",
        layout: Layout = PLAIN,
        live: bool = False,
    ) -> None:
        # 4 KiB, or what a line of this model may need: 32 characters a number, and JSON repeats the names.
        limit = max(4096, sum(len(columns.get(name, name)) + 36 for name in manifest.names))
        self.splitter = LineSplitter(limit)
        self.parser = RowParser(manifest.names, columns, first_line, source, layout)
        self.order: Order | None = None
        self.resampler: Resampler | None = None
        if layout.resample:
            self.resampler = Resampler(manifest, layout.resample, live, source)
        elif layout.sequence:
            self.order = Order(manifest, "sequence", layout.sequence_wraps_at)
        elif live or layout.time:  # a file's scores equal those of `edgekd evaluate`, unless it is asked for more
            self.order = Order(manifest, "time")

    @property
    def clocked(self) -> bool:
        """Whether its samples come at the model's period, or should."""
        return self.resampler is None

    @property
    def bad(self) -> int:
        """Lines that were no sample: no row, overlong, cut off, or a row that has been before."""
        return self.parser.bad + self.splitter.overlong

    @property
    def unreadable(self) -> int:
        """Those of them that were noise."""
        return self.bad - (self.order.dropped if self.order else 0)

    @property
    def readable(self) -> int:
        """Lines that were rows, or headers."""
        return self.parser.lines + self.splitter.overlong - self.unreadable

    @property
    def last_bad(self) -> str:
        """Why the newest bad line was none."""
        return self.parser.last_bad or f"longer than {self.splitter.limit} bytes"

    def feed(self, data: bytes) -> list[Row | InputEvent]:
        """The rows that `data` completes, and what is to be told of them; where it is empty, what time completes."""
        return self.rows_of(self.splitter.feed(data))

    def end(self) -> list[Row | InputEvent]:
        """The row that was left when the input ended for good."""
        return self.rows_of(self.splitter.end()) + (self.resampler.end() if self.resampler else [])

    def restart(self, gap: bool = False) -> None:
        """The input was opened again: what was left of a line is torn. gap: what came before is no longer recent."""
        if self.splitter.restart():
            self.parser.refuse("cut off when the input was lost")
        if gap and self.order:
            self.order.restart()

    def rows_of(self, lines: list[bytes]) -> list[Row | InputEvent]:
        """The rows in whole lines, in order and at the model's rate."""
        parse = self.parser.parse
        rows: list[Row | InputEvent] = [row for line in lines if (row := parse(line)) is not None]
        if self.order and rows:
            dropped = self.order.dropped
            rows = self.order.arrange(rows)  # type: ignore[arg-type]
            if self.order.dropped > dropped:
                self.parser.refuse(self.order.last_dropped, self.order.dropped - dropped)
        return self.resampler.resample(rows) if self.resampler else rows
