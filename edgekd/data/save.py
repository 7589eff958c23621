"""Write a recording as CSV or Parquet, in the columns that `load` finds again by their names."""

from __future__ import annotations

import csv
import json
import os
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from edgekd.data.parquet_file import SUFFIXES as PARQUET
from edgekd.data.reading import Reading
from edgekd.data.recording import Recording
from edgekd.data.table.columns import ELAPSED_NAME, ENTITY_NAME, LABEL_NAMES, TIME_NAMES, WEAK, plain
from edgekd.runtime.errors import MissingExtra, UsageError
from edgekd.runtime.layout import Layout

TIME_NAME, LABEL_NAME = "timestamp", "label"
LOOKED_AT = "time"
"""The clock's name in what `edgekd look` writes."""
BLOCK = 4096
"""Rows turned into text at a time: faster than one by one, and the texts of a long recording would fill the memory."""


def save_reading(reading: Reading, path: str | os.PathLike[str]) -> None:
    """The same for a reading: `time`, and empty cells where a value is missing."""
    save(reading.as_read(), path, LOOKED_AT)


def save(recording: Recording, path: str | os.PathLike[str], time_name: str = TIME_NAME) -> None:
    """Write timestamp (or elapsed_s where there is no clock), entity (where there are several), sensors, and label.

    `load` gives back the same values, names, period, labels and borders. Raises UsageError for another suffix than
    .csv and .parquet, and where a sensor has a name that `load` takes for a clock or a label.
    """
    path = Path(path)
    if path.suffix.lower() not in (".csv", *PARQUET):
        raise UsageError(f"{path}: recordings are written as .csv or .parquet; choose one by the name")
    taken = {*TIME_NAMES, *LABEL_NAMES, ELAPSED_NAME, ENTITY_NAME} - {*WEAK}  # T and such, beside a clock, are sensors
    clash = [name for name in recording.sensors if plain(name) in taken]
    if clash:
        raise UsageError(f"{path}: a sensor is named '{clash[0]}', which `load` takes for no sensor; rename it")
    temporary = path.with_name(f".{path.name}.part")  # an interrupted write leaves the old file as it was
    try:
        (_write_parquet if path.suffix.lower() in PARQUET else _write_csv)(recording, temporary, time_name)
        temporary.replace(path)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror or error}); choose another place") from error
    finally:
        temporary.unlink(missing_ok=True)


def _entity_of_rows(recording: Recording) -> list[str]:
    """Their names; [] where there is one only."""
    if len(recording.starts) == 1:
        return []
    return [name for name, (start, end) in zip(recording.entities, recording.bounds) for _ in range(end - start)]


def _elapsed_s(recording: Recording) -> np.ndarray:
    steps = np.concatenate([np.arange(end - start) for start, end in recording.bounds])
    return steps * recording.period_s


def _write_csv(recording: Recording, path: Path, time_name: str) -> None:
    if recording.times_s is not None:
        first_name, first = time_name, [_iso(t) for t in recording.times_s]
    else:
        first_name, first = ELAPSED_NAME, [f"{t:.10g}" for t in _elapsed_s(recording)]
    entities = _entity_of_rows(recording)
    names = [first_name, *[ENTITY_NAME] * bool(entities), *recording.sensors]
    labeled = recording.labels is not None
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*names, LABEL_NAME] if labeled else names)
        for at in range(0, len(recording), BLOCK):
            # the shortest texts that read back as the same float32
            for i, cells in enumerate(recording.values[at : at + BLOCK].astype(str).tolist(), at):
                cells = ["" if cell == "nan" else cell for cell in cells] if "nan" in cells else cells
                label = [str(int(recording.labels[i]))] if recording.labels is not None else []
                writer.writerow([first[i], *entities[i : i + 1], *cells, *label])


def _iso(seconds: float) -> str:
    text = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")
    return text.replace(".000000+00:00", "Z").replace("+00:00", "Z")


def _write_parquet(recording: Recording, path: Path, time_name: str) -> None:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingExtra("pyarrow", "workstation") from error
    columns: dict[str, pa.Array] = {}
    if recording.times_s is not None:
        microseconds = np.round(recording.times_s * 1e6).astype(np.int64)
        columns[time_name] = pa.array(microseconds, pa.int64()).cast(pa.timestamp("us", tz="UTC"))
    else:
        columns[ELAPSED_NAME] = pa.array(_elapsed_s(recording))
    if entities := _entity_of_rows(recording):
        columns[ENTITY_NAME] = pa.array(entities)
    columns |= {
        name: pa.array(np.ascontiguousarray(recording.values[:, i]), from_pandas=True)
        for i, name in enumerate(recording.sensors)
    }
    if recording.labels is not None:
        columns[LABEL_NAME] = pa.array(recording.labels)
    pq.write_table(pa.table(columns), path)


def toml_of(layout: Layout) -> str:
    """The layout as text that `Layout.from_toml` reads: the fields that say something, a line each."""
    # a basic string of TOML is one of JSON, but for the escape of DEL; so are lists, numbers, true and false
    lines = (f"{name} = {json.dumps(value, ensure_ascii=False)}\n" for name, value in layout_fields(layout).items())
    return "".join(lines).replace("\x7f", "\\u007F")


def layout_fields(layout: Layout) -> dict[str, Any]:
    """The fields of a layout that say something, JSON-able."""
    found = ((field.name, getattr(layout, field.name)) for field in fields(layout))
    return {name: list(value) if isinstance(value, tuple) else value for name, value in found if value}
