"""What a caller asks of a reader, and the answers that all readers give in the same words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

import numpy as np

from edgekd.data.recording import Recording
from edgekd.runtime.errors import RecordingError
from edgekd.runtime.layout import Layout

PARTS = ("train", "test")
LISTED = 12
"""Names that an error shows before it only counts; a terminal line or two."""


@dataclass(frozen=True)
class Request:
    """One recording to be read."""

    path: Path
    item: str | None = None
    """Machine, channel, series or run of a collection; None where the user named none."""
    part: str | None = None
    """"train", "test", or None for everything that the item holds."""
    period_s: float | None = None
    """Seconds between samples; None takes the file's or the collection's own."""
    time_column: str | None = None
    """Column with the clock; None finds it by name, "none" leaves the clock out."""
    label_column: str | None = None
    """Column with the labels; None finds it by name, "none" leaves the labels out."""
    time_format: str | None = None
    """As `datetime.strptime` takes it, or a word of `Layout.time_format`; None finds it."""
    timezone: str | None = None
    """Of times that say none; None is UTC."""
    sensors: tuple[str, ...] = ()
    """Columns that are taken, all others left out; patterns such as `temp_*`. (): all that are sensors."""
    ignore: tuple[str, ...] = ()
    """Columns that are left out; patterns."""
    missing: tuple[str, ...] = ()
    """Words and numbers that mean no value, beside the usual ones."""
    difference: tuple[str, ...] = ()
    """NAME or NAME:MODULUS of sensors that count up: their steps are taken."""
    only: tuple[str, ...] = ()
    """Comparisons such as `pump > 0`: other rows are left out."""
    group: str | None = None
    """COLUMN=VALUE takes the rows of one machine; COLUMN makes each machine an entity."""
    resample: str | None = None
    """`mean`, `last`, a length of time, or RULE:LENGTH: rows of one period become one sample."""
    layout: Layout | None = None
    """How the file is written and read, as far as this says it; what stands above overrules it."""
    like: Layout | None = None
    """How another file was read, of the same sensors: what was made of its columns is made of these."""

    def at(self, path: Path) -> Request:
        """The same request of another file."""
        return replace(self, path=path)


def shorten(names: Sequence[str]) -> str:
    """`a, b, c … (54 in all)`."""
    if len(names) <= LISTED:
        return ", ".join(names)
    return f"{', '.join(names[:LISTED])} … ({len(names)} in all)"


def pick(request: Request, names: Sequence[str], what: str) -> str:
    """The item of a collection that the request names; the only one there is where it names none.

    Raises RecordingError listing what there is.
    """
    if not names:
        raise RecordingError(f"{request.path}: holds no {what}")
    if request.item is None:
        if len(names) == 1:
            return names[0]
        raise RecordingError(
            f"{request.path}: which {what}? pick one, as in {request.path}#{names[0]}; there are {shorten(names)}"
        )
    if request.item in names:
        return request.item
    close = get_close_matches(request.item, names, n=3)
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    raise RecordingError(f"{request.path}: no {what} '{request.item}'; {hint}there are {shorten(names)}")


def no_item(request: Request) -> None:
    """Refuse an item where the file is one recording."""
    if request.item is not None:
        raise RecordingError(f"{request.path}: is a single recording; leave out #{request.item}")


def parts(request: Request, train: Callable[[], Recording], test: Callable[[], Recording]) -> Recording:
    """The asked part; both, one entity after the other, where none is asked for."""
    if request.part is None:
        return join([train(), test()], PARTS)
    part = train() if request.part == "train" else test()
    return replace(part, source=f"{part.source} {request.part}")


def join(recordings: Sequence[Recording], names: Sequence[str]) -> Recording:
    """Recordings of the same sensors one after the other, each an entity (or several) of its own.

    Parts without labels count as normal where another part has labels. `names` go before the entities' own.
    """
    first = recordings[0]
    labels = None
    if any(r.labels is not None for r in recordings):
        labels = np.concatenate([np.zeros(len(r), bool) if r.labels is None else r.labels for r in recordings])
    times = [r.times_s for r in recordings if r.times_s is not None]
    offsets = np.cumsum([0, *(len(r) for r in recordings)])
    return replace(
        first,
        values=np.concatenate([r.values for r in recordings]),
        labels=labels,
        times_s=np.concatenate(times) if len(times) == len(recordings) else None,
        starts=tuple(int(offset) + s for r, offset in zip(recordings, offsets) for s in r.starts),
        entities=tuple("/".join(filter(None, (e, name))) for r, name in zip(recordings, names) for e in r.entities),
        notes=tuple(dict.fromkeys(note for r in recordings for note in r.notes)),
    )
