"""Where samples come from. A source is an iterable; the loop is its only caller."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from edgekd.runtime.lines import LineSplitter
from edgekd.runtime.manifest import Manifest
from edgekd.runtime.parse import FirstLine, Row, RowParser

TICK_S = 0.25
"""A source that has nothing yields nothing this often, so that the loop can save its state or stop."""


@dataclass(frozen=True)
class InputEvent:
    """Something that happened to the input itself, to be told in the stream of events."""

    event: str
    words: str
    fields: dict[str, Any] = field(default_factory=dict)


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
    """Bytes of one input to rows: a splitter and a parser."""

    unit = "lines"
    clocked = True

    def __init__(
        self, manifest: Manifest, columns: dict[str, str], first_line: FirstLine = "anything", source: str = "input"
    ) -> None:
        # 4 KiB, or what a line of this model may need: 32 characters a number, and JSON repeats the names.
        limit = max(4096, sum(len(columns.get(name, name)) + 36 for name in manifest.names))
        self.splitter = LineSplitter(limit)
        self.parser = RowParser(manifest.names, columns, first_line, source)

    @property
    def bad(self) -> int:
        """Lines that were no row, overlong ones included."""
        return self.parser.bad + self.splitter.overlong

    @property
    def last_bad(self) -> str:
        """Why the newest bad line was none."""
        return self.parser.last_bad or f"longer than {self.splitter.limit} bytes"

    def feed(self, data: bytes) -> list[Row]:
        """The rows that `data` completes."""
        return self._rows(self.splitter.feed(data))

    def end(self) -> list[Row]:
        """The row that was left when the input ended for good."""
        return self._rows(self.splitter.end())

    def _rows(self, lines: list[bytes]) -> list[Row]:
        return [row for line in lines if (row := self.parser.parse(line)) is not None]
