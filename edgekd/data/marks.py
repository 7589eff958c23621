"""Marks: what people said of a device's alarms, true or false, for a recording of the same time.

A file of marks, as the gateway's page writes it, is a CSV with the columns stream, start, end, mark and note; times are
ISO 8601, UTC where they say no zone, a mark is `true` or `false`. Of marks that overlap the later one counts.
"""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from edgekd.data.recording import Recording
from edgekd.data.request import shorten
from edgekd.runtime.errors import RecordingError, UsageError
from edgekd.runtime.json_fields import shown

COLUMNS = ("stream", "start", "end", "mark", "note")
VERDICTS = {"true": True, "false": False}


@dataclass(frozen=True)
class Mark:
    """One span of time, first and last moment in seconds since 1970."""

    start_s: float
    end_s: float
    true: bool
    note: str = ""

    def covers(self, recording: Recording) -> np.ndarray:
        """bool (T,): the samples of the span. Raises UsageError where the recording does not say when it was."""
        if recording.times_s is None:
            raise UsageError(f"{recording.source}: has no dates, so marks cannot be placed in it; leave them out")
        slack = recording.period_s / 2  # times are written with fewer digits than they are kept
        return (recording.times_s >= self.start_s - slack) & (recording.times_s <= self.end_s + slack)


def read_marks(spec: str) -> list[Mark]:
    """The marks in `PATH[#STREAM]`; raises UsageError naming the line, and the streams where there are several."""
    path, stream = split_stream(spec)
    if zipfile.is_zipfile(path):
        raise UsageError(f"{path}: is the page's ZIP file; unpack it and give the marks.csv in it")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file, restval="")
            if rows.fieldnames is None or not {*COLUMNS} <= {*rows.fieldnames}:
                raise UsageError(f"{path}: is no file of marks; its first line is {','.join(COLUMNS)}")
            found = [(row["stream"], _mark(row, f"{path}, line {rows.line_num}")) for row in rows]
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); give the file of marks from the page") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path}: is no file of marks ({error})") from None
    streams = list(dict.fromkeys(name for name, _ in found))
    if len(streams) > 1 if stream is None else stream not in streams:
        names = shorten([shown(name, 40) for name in streams])
        none = "" if stream is None else f", none of {shown(stream, 40)}"
        raise UsageError(f"{path}: holds marks of {names or 'no stream'}{none}; say which with {path}#STREAM")
    return [mark for name, mark in found if stream in (None, name)]


def labeled(recording: Recording, marks: Sequence[Mark]) -> Recording:
    """The recording with true marks as labels, and none where a mark is false."""
    labels = np.zeros(len(recording), bool) if recording.labels is None else recording.labels.copy()
    elsewhere = 0
    for mark in marks:
        covered = mark.covers(recording)
        labels[covered] = mark.true
        elsewhere += not covered.any()
    return replace(recording, labels=labels, notes=(*recording.notes, *_elsewhere(elsewhere, marks, recording)))


def without_faults(recording: Recording, marks: Sequence[Mark]) -> Recording:
    """What is left of a recording without its true marks; where one was cut out, a new entity begins."""
    only = labeled(replace(recording, labels=None), marks)
    assert only.labels is not None
    kept = np.flatnonzero(~only.labels)
    if not len(kept):
        raise RecordingError(f"{recording.source}: nothing is left of it without what is marked true")
    entity = np.searchsorted(recording.starts, kept, side="right") - 1
    first = np.flatnonzero((np.diff(kept, prepend=-2) != 1) | (np.diff(entity, prepend=-1) != 0))
    cut = len(recording) - len(kept)
    said = (f"{cut:,} samples are marked true and left out",) if cut else ()
    return replace(
        recording,
        values=np.ascontiguousarray(recording.values[kept]),
        labels=None if recording.labels is None else recording.labels[kept],
        times_s=None if recording.times_s is None else recording.times_s[kept],
        starts=tuple(first.tolist()),
        entities=tuple(recording.entities[i] for i in entity[first]),
        notes=(*only.notes, *said),
    )


def split_stream(spec: str) -> tuple[Path, str | None]:
    """`PATH[#STREAM]` in its two pieces; a # that belongs to an existing path stays there."""
    path, hash_, stream = spec.rpartition("#")
    return (Path(path), stream) if hash_ and not Path(spec).exists() else (Path(spec), None)


def _elsewhere(count: int, marks: Sequence[Mark], recording: Recording) -> tuple[str, ...]:
    if not count or recording.times_s is None:
        return ()
    first, last = (f"{datetime.fromtimestamp(float(at), UTC):%Y-%m-%d %H:%M}" for at in recording.times_s[[0, -1]])
    words = f"{count} of {len(marks)} mark{'s' * (len(marks) != 1)} are of another time than the recording"
    return (f"{words}, {first} to {last} UTC",)


def _mark(row: dict[str, str], where: str) -> Mark:
    start_s, end_s = (_seconds(row[name], where) for name in ("start", "end"))
    if row["mark"] not in VERDICTS:
        raise UsageError(f"{where}: '{shown(row['mark'])}' is no mark; write true or false")
    if end_s < start_s:
        raise UsageError(f"{where}: ends before it starts; swap the two times")
    return Mark(start_s, end_s, VERDICTS[row["mark"]], row["note"])


def _seconds(text: str, where: str) -> float:
    try:
        moment = datetime.fromisoformat(text.strip())
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise UsageError(f"{where}: '{shown(text)}' is no time; write it as 2026-03-01T12:00:00Z") from None
