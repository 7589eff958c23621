"""Bytes of one input to samples: lines, rows, whole rows in order or at the model's rate, and what is made of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from edgekd.runtime.json_fields import shown
from edgekd.runtime.layout import PLAIN, Layout
from edgekd.runtime.manifest import Manifest
from edgekd.runtime.sources import InputEvent, Row, Tally, blocks
from edgekd.runtime.sources.row_parser import FirstLine, RowParser

if TYPE_CHECKING:  # loaded where they are asked for: a plain recording needs none
    from edgekd.runtime.sources.gaps import Gaps
    from edgekd.runtime.sources.resample import Resampler


class LineSplitter:
    """Splits at every newline or carriage return; the pieces in which bytes arrive make no difference.

    What no newline ends is no line (a torn number still looks like one), except at the end of an input that has ended
    for good. A line beyond `limit` bytes is given as soon as more than those are there, and its rest is dropped.
    """

    def __init__(self, limit: int = 4096) -> None:
        self.limit = limit
        self.skipping = False  # inside an overlong line, of which no newline has come yet
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
        likely: bool = False,
    ) -> None:
        switches = frozenset(sensor.name for sensor in manifest.sensors if sensor.low >= 0 and sensor.high <= 1)
        self.parser = RowParser(manifest.names, columns, first_line, source, layout, self, switches, likely)
        self.splitter = LineSplitter(self.parser.limit)
        self.resampler: Resampler | None = None
        self.gaps: Gaps | None = None
        self._last_steps: list[Callable[[list[Row | InputEvent]], list[Row | InputEvent]]] = []
        self._merger = manifest, layout, live, self
        self._live = live
        self._begun = False
        if layout.resample:
            from edgekd.runtime.sources.resample import Resampler

            self.resampler = Resampler(manifest, layout, live, self, source)
        elif layout.merge or (live and layout.tag):  # a file of tags is read whole
            self.merge(told=True)
        if layout.sequence or live or layout.gaps or self.resampler:  # a file is `edgekd evaluate`'s as it is, else
            from edgekd.runtime.sources.gaps import Gaps

            self.gaps = Gaps(manifest, layout, self)
        if layout.only:
            from edgekd.runtime.sources.gaps import Pauses

            self._last_steps.append(Pauses(manifest).leave_out)
        if layout.difference:
            from edgekd.runtime.sources.difference import Difference

            self._last_steps.append(Difference(manifest, layout.difference).take)

    def feed(self, data: bytes) -> list[Row | InputEvent]:
        """The rows that `data` completes, and what is to be told of them; where it is empty, what time completes."""
        return self.samples_of(self.rows_of(self.splitter.feed(data)))

    def end(self) -> list[Row | InputEvent]:
        """The row that was left when the input ended for good."""
        items = self.samples_of(self.rows_of(self.splitter.end(), whole=False), ended=True)
        return items + (self._made(self.resampler.end()) if self.resampler else [])

    def restart(self, gap: bool = False) -> None:
        """The input was opened again: what was left of a line is torn. gap: what came before is no longer recent."""
        if self.splitter.end():
            self.refuse("cut off when the input was lost")
        if gap and self.gaps:
            self.gaps.restart()

    def rows_of(self, lines: list[bytes], whole: bool = True) -> list[Row]:
        """The rows in whole lines. whole: the last of them is ended by a newline."""
        rows, at = list[Row](), 0
        while at < len(lines):
            plain = blocks.rows_of(self.parser, lines[at:])
            others = lines[at + len(plain) :][: blocks.FEWEST if self.parser.quick and not plain else 1]
            at += len(plain) + len(others)
            rows += [*plain, *(row for line in others if (row := self.parser.parse(line, whole)) is not None)]
        self.good += len(rows)
        return rows

    def samples_of(self, rows: list[Row], ended: bool = False) -> list[Row | InputEvent]:
        """What becomes of rows: whole ones, in order and at the model's rate. ended: they are the last."""
        if rows and not self._begun and self._live and rows[0].partial:
            self.merge(told=False)
        told = [] if self._begun or not self._live else self._lacks_time(rows)
        items: list[Any] = [*rows]
        merges = self.resampler if self.resampler and self.resampler.aligns is not False else None
        if self.gaps:
            self.gaps.several = merges is not None
            if rows and not (self._begun or self._live):
                self.gaps.judge(rows)
            items = self.gaps.arrange(rows, ended)
        self._begun = self._begun or bool(rows)
        return told + self._made(merges.resample(items) if merges else items)

    def _lacks_time(self, rows: list[Row]) -> list[Row | InputEvent]:
        """What is to be told where none of the first rows has the time that was asked for."""
        column = " ".join(self.parser.layout.time)
        if not (rows and column and self.parser.asks_time) or any(row.time is not None for row in rows):
            return []
        words = f"there is no '{shown(column, 40)}', the column of --time; gaps are not noticed"
        return [InputEvent("time_unreadable", words, {"time": None})]

    def merge(self, told: bool) -> None:
        """Rows may be parts of samples from now on. told: they are."""
        if self.resampler is None:
            from edgekd.runtime.sources.merge import Merger

            self.resampler = Merger(*self._merger)
        self.resampler.aligns = told or self.resampler.aligns

    def _made(self, items: list[Row | InputEvent]) -> list[Row | InputEvent]:
        """What the layout makes of samples."""
        for step in self._last_steps:
            items = step(items)
        return items
