"""Bytes of one input to rows: a splitter, a parser, and what puts the rows in order or at the model's rate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgekd.runtime.manifest import Manifest
from edgekd.runtime.sources import InputEvent, Row, Tally
from edgekd.runtime.sources.row_parser import PLAIN, FirstLine, Layout, RowParser

if TYPE_CHECKING:  # loaded where they are asked for: a plain recording needs neither
    from edgekd.runtime.sources.gaps import Gaps
    from edgekd.runtime.sources.resample import Resampler


class LineSplitter:
    """Splits at every newline or carriage return; the pieces in which bytes arrive make no difference.

    What is not ended by a newline is never a line (a torn number still looks like one), except at the end of an input
    that has ended for good. Of a line beyond `limit` bytes, more than those are given, so that its length tells it, as
    soon as they are there, and the rest is dropped: no newline means no memory.
    """

    def __init__(self, limit: int = 4096) -> None:
        self.limit = limit
        self.skipping = False
        """Inside an overlong line, of which no newline has come yet."""
        self._tail = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes, without their ends; empty ones (as between CR and LF) included."""
        *lines, tail = (self._tail + data).replace(b"\r", b"\n").split(b"\n")
        if self.skipping and lines:
            del lines[0]  # the rest of an overlong line
            self.skipping = False
        if not self.skipping and len(tail) > self.limit:
            lines.append(tail)
            self.skipping = True
        self._tail = b"" if self.skipping else tail
        return lines

    def end(self) -> list[bytes]:
        """The input ended: what is left is a line if it did so for good (a file need not end in a newline)."""
        tail, self._tail, self.skipping = self._tail, b"", False
        return [tail] if tail else []


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
        if self.splitter.end():
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
