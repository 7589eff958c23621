"""UCR Anomaly Archive (Wu and Keogh 2021): series of one value, a normal beginning to train on, then one anomaly.

001_UCR_Anomaly_DISTORTED1sddb40_35000_52000_52620.txt    as published; the name carries the three positions
DIR of such files                                         item = number or name
UCR.npz beside index.csv                                  item = number
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgekd.data import gaps, npz
from edgekd.data.recording import Recording
from edgekd.data.request import Request, no_item, pick
from edgekd.runtime.errors import RecordingError

FILE_NAME = re.compile(r"(?P<id>\d{3})_UCR_Anomaly_(?P<name>.+)_(?P<train>\d+)_(?P<begin>\d+)_(?P<end>\d+)\.txt")
ARCHIVE, INDEX = "UCR.npz", "index.csv"


@dataclass(frozen=True)
class Series:
    """Where a series lies and where its anomaly is, in samples from 0; `end` is included."""

    source: str
    train_end: int
    begin: int
    end: int


def matches(path: Path) -> bool:
    """Whether a file or a folder is in one of the three layouts."""
    if path.is_dir():
        return (path / ARCHIVE).is_file() or bool(_text_files(path))
    if path.suffix == ".npz":
        found = npz.keys(path)
        return bool(found) and all(re.fullmatch(r"\d{3}", key) for key in found)
    return FILE_NAME.fullmatch(path.name) is not None


def load(request: Request) -> Recording:
    """One series; part None is all of it, "train" its normal beginning, "test" the rest."""
    path = request.path
    if path.is_dir() and not (path / ARCHIVE).is_file():
        files = _text_files(path)
        numbers = {name[:3]: name for name in files}
        item = pick(request, list(numbers), "series") if request.item not in files else request.item
        return _from_text(request, files[numbers.get(item or "", item or "")])
    if path.is_dir() or path.suffix == ".npz":
        return _from_archive(request, path / ARCHIVE if path.is_dir() else path)
    no_item(request)
    return _from_text(request, path)


def _text_files(folder: Path) -> dict[str, Path]:
    return {p.name: p for p in sorted(folder.glob("*_UCR_Anomaly_*.txt")) if FILE_NAME.fullmatch(p.name)}


def _from_text(request: Request, path: Path) -> Recording:
    found = FILE_NAME.fullmatch(path.name)
    if found is None:
        raise RecordingError(f"{path}: the name of a UCR file is ID_UCR_Anomaly_NAME_TRAINEND_BEGIN_END.txt; rename it")
    try:
        # a few files of the archive are one line of numbers, the others one number a line
        values = np.array(path.read_text(encoding="ascii").split(), dtype=np.float64)
    except (ValueError, OSError) as error:
        raise RecordingError(f"{path}: not a list of numbers ({error}); get the file again") from error
    series = Series(path.stem, int(found["train"]), int(found["begin"]), int(found["end"]))
    return _recording(request, series, values, found["id"])


def _from_archive(request: Request, path: Path) -> Recording:
    index = path.parent / INDEX
    try:
        with index.open(newline="", encoding="utf-8") as file:
            rows = {row["id"]: row for row in csv.DictReader(file)}
    except OSError as error:
        raise RecordingError(
            f"{index}: missing; it says where each series' training ends; put it beside {path.name}"
        ) from error
    item = pick(request, [key for key in npz.keys(path) if key in rows], "series")
    row = rows[item]
    series = Series(f"{path.name}#{item}", int(row["train_end"]), int(row["anomaly_begin"]), int(row["anomaly_end"]))
    return _recording(request, series, npz.read(path, [item])[item], item)


def _recording(request: Request, series: Series, values: np.ndarray, entity: str) -> Recording:
    if not 0 < series.train_end < series.begin <= series.end <= len(values):
        raise RecordingError(
            f"{series.source}: training to {series.train_end} and anomaly {series.begin} to {series.end} do not fit "
            f"{len(values)} samples; get the file again"
        )
    values, notes = gaps.to_float32(values[:, None], ("value",), series.source)
    labels = np.zeros(len(values), bool)
    labels[series.begin : series.end + 1] = True
    if request.period_s is None:
        notes.append("the archive gives no sampling rate: one sample is taken as 1 s; --period-s sets it")
    whole = Recording(
        values=values,
        sensors=("value",),
        period_s=request.period_s or 1.0,
        labels=labels,
        entities=(entity,),
        source=series.source,
        notes=tuple(notes),
    )
    if request.part == "train":
        return whole.slice(0, series.train_end)
    return whole if request.part is None else whole.slice(series.train_end, len(whole))
