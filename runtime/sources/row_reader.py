"""Bytes of one input to rows: a splitter, a parser, and what puts the rows in order or at the model's rate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgekd.runtime.manifest import Manifest
from edgekd.runtime.sources import InputEvent, Row, Tally
from edgekd.runtime.sources.line_splitter import LineSplitter
from edgekd.runtime.sources.row_parser import PLAIN, FirstLine, Layout, RowParser

if TYPE_CHECKING:  # loaded where they are asked for: a plain recording needs neither
    from edgekd.runtime.sources.gaps import Gaps
    from edgekd.runtime.sources.resample import Resampler


class RowReader(Tally):
    """Lines to rows; counts what was none: no row, overlong, cut off, or a row that has been before."""

    def __init__(
        self,
        manifest: Manifest,
        columns: dict[str, str],
        first_line: FirstLine = "anything",
        source: str = "input",
        layout: Layout = PLAIN,
        live: bool = False,
    ) -> None:
        super().__init__()
        self.parser = RowParser(manifest.names, columns, first_line, source, layout, self)
        self.splitter = LineSplitter(self.parser.limit)
        self.gaps: Gaps | None = None
        self.resampler: Resampler | None = None
        if layout.resample:
            from edgekd.runtime.sources.resample import Resampler

            self.resampler = Resampler(manifest, layout.resample, live, source)
        elif layout.sequence or live or layout.time:  # a file's scores equal those of `edgekd evaluate` unless asked
            from edgekd.runtime.sources.gaps import Gaps

            self.gaps = Gaps(manifest, self, not layout.sequence, layout.sequence_wraps_at)

    def feed(self, data: bytes) -> list[Row | InputEvent]:
        """The rows that `data` completes, and what is to be told of them; where it is empty, what time completes."""
        return self.rows_of(self.splitter.feed(data))

    def end(self) -> list[Row | InputEvent]:
        """The row that was left when the input ended for good."""
        return self.rows_of(self.splitter.end()) + (self.resampler.end() if self.resampler else [])

    def restart(self, gap: bool = False) -> None:
        """The input was opened again: what was left of a line is torn. gap: what came before is no longer recent."""
        if self.splitter.restart():
            self.refuse("cut off when the input was lost")
        if gap and self.gaps:
            self.gaps.restart()

    def rows_of(self, lines: list[bytes]) -> list[Row | InputEvent]:
        """The rows in whole lines, in order and at the model's rate."""
        parse = self.parser.parse
        rows = [row for line in lines if (row := parse(line)) is not None]
        if self.gaps:
            return self.gaps.arrange(rows)
        return self.resampler.resample(rows) if self.resampler else [*rows]
