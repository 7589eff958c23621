"""Parquet: the same table as a CSV, with typed columns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgekd.data import clock
from edgekd.data.columns import TIME_NAMES, Table, assemble, find_roles, parse_labels, plain
from edgekd.data.recording import Recording
from edgekd.data.request import Request
from edgekd.runtime.errors import MissingExtra, RecordingError

SUFFIXES = (".parquet", ".pq")


def matches(path: Path) -> bool:
    """Whether a file is called like a Parquet file."""
    return path.is_file() and path.suffix.lower() in SUFFIXES


def load(request: Request) -> Recording:
    """All rows of a file, whatever part is asked for.

    Raises RecordingError naming row and column of what cannot be used.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingExtra("pyarrow", "workstation") from error
    try:
        table = pq.ParquetFile(request.path).read()
    except (OSError, pa.ArrowException) as error:
        said = str(error).splitlines()[0]
        raise RecordingError(f"{request.path}: not a readable Parquet file ({said}); write it again") from error
    names = table.column_names
    if request.time_column is None and not any(plain(name) in TIME_NAMES for name in names):
        typed = [n for n, t in zip(names, table.schema.types) if pa.types.is_timestamp(t)]
        request = replace(request, time_column=typed[0] if typed else None)
    roles = find_roles(names, request)
    values = np.empty((table.num_rows, len(roles.sensors)))
    for column, i in enumerate(roles.sensors):
        values[:, column] = _numbers(table.column(i), names[i], request.path)

    def where(i: int) -> str:
        return f"row {i + 1}"

    def texts(i: int) -> list[str]:
        return ["" if v is None else str(v) for v in table.column(i).to_pylist()]

    source = str(request.path)
    columns = Table(
        names=names,
        roles=roles,
        values=values,
        times_s=_times(table, roles.time, source, where, texts) if roles.time else None,
        labels=parse_labels(texts(roles.label), source, where) if roles.label is not None else None,
        entities=texts(roles.entity) if roles.entity is not None else None,
        elapsed_s=_numbers(table.column(roles.elapsed), names[roles.elapsed], request.path)
        if roles.elapsed is not None
        else None,
    )
    return assemble(request, columns, where)


def _numbers(column: Any, name: str, path: Path) -> np.ndarray:
    """float64 (T,) of an Arrow column, NaN for null."""
    import pyarrow as pa

    kind = column.type
    if not (
        pa.types.is_floating(kind)
        or pa.types.is_integer(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_decimal(kind)
    ):
        raise RecordingError(f"{path}: column '{name}' holds {kind}, not numbers; drop the column if it is no sensor")
    return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(), dtype=np.float64)


def _times(table: Any, time: tuple[int, ...], source: str, where: Any, texts: Any) -> np.ndarray:
    import pyarrow as pa

    column = table.column(time[0])
    if len(time) == 1 and pa.types.is_timestamp(column.type) and column.null_count == 0:
        return column.cast(pa.timestamp("us")).cast(pa.int64()).to_numpy() / 1e6
    return clock.parse_times([" ".join(parts) for parts in zip(*(texts(i) for i in time))], source, where)
