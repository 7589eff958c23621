"""Tables, and lines that name their values, as loggers, historians and people write them; `table/` reads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edgekd.data.reading import Reading
from edgekd.data.recording import Recording
from edgekd.data.request import Request, pick
from edgekd.data.suspects import recording_of
from edgekd.data.table.read import read

SUFFIXES = (".csv", ".tsv", ".txt", ".dat", ".log", ".xlsx", ".json", ".jsonl", ".gz", ".zip")


def matches(path: Path) -> bool:
    """Whether it is a file: what nothing else knows is tried as a table."""
    return path.is_file() and path.suffix != ".npz"


def look(request: Request) -> Reading:
    """All rows of a file, as they were read.

    Raises RecordingError naming what cannot be read, and the option that mends it.
    """
    return read(request)


def load(request: Request, ignore: Sequence[str] = (), keep_rows: bool = False) -> Recording:
    """All rows of a file, whatever part is asked for; see `read`."""
    reading = read(request, ignore, keep_rows)
    return entity_of(request, reading.recording() if keep_rows else recording_of(reading))


def entity_of(request: Request, whole: Recording) -> Recording:
    """The entity that was asked for; all of them where none was."""
    if request.item is None:
        return whole
    name = pick(request, whole.entities, "entity")
    return replace(next(entity for entity in whole.split() if entity.entities == (name,)), layout=whole.layout)


def header(path: Path) -> list[str]:
    """Column names of a file in lower case, by its first line; empty where it is no text."""
    from edgekd.data.table.text import cells_in

    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline(65536)
    except (OSError, UnicodeDecodeError):
        return []
    return [name.lower() for name in cells_in(first.strip(), "")]
