"""Bytes of one input to rows: a splitter, a parser, and what puts the rows in order or at the model's rate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgekd.runtime.manifest import Manifest
from edgekd.runtime.sources import InputEvent, Row
from edgekd.runtime.sources.line_splitter import LineSplitter
from edgekd.runtime.sources.row_parser import PLAIN, FirstLine, Layout, RowParser

if TYPE_CHECKING:  # loaded where they are asked for: a plain recording needs neither
    from edgekd.runtime.sources.gaps import Gaps
    from edgekd.runtime.sources.resample import Resampler


class RowReader:
    """Lines to rows; counts what was none."""

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
        self.gaps: Gaps | None = None
        self.resampler: Resampler | None = None
        if layout.resample:
            from edgekd.runtime.sources.resample import Resampler

            self.resampler = Resampler(manifest, layout.resample, live, source)
        elif layout.sequence or live or layout.time:  # a file's scores equal those of `edgekd evaluate` unless asked
            from edgekd.runtime.sources.gaps import Gaps

            self.gaps = Gaps(manifest, "sequence" if layout.sequence else "time", layout.sequence_wraps_at)

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
        return self.bad - (self.gaps.dropped if self.gaps else 0)

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
        if gap and self.gaps:
            self.gaps.restart()

    def rows_of(self, lines: list[bytes]) -> list[Row | InputEvent]:
        """The rows in whole lines, in order and at the model's rate."""
        parse = self.parser.parse
        rows: list[Row | InputEvent] = [row for line in lines if (row := parse(line)) is not None]
        if self.gaps and rows:
            dropped = self.gaps.dropped
            rows = self.gaps.arrange(rows)  # type: ignore[arg-type]
            if self.gaps.dropped > dropped:
                self.parser.refuse(self.gaps.last_dropped, self.gaps.dropped - dropped)
        return self.resampler.resample(rows) if self.resampler else rows
