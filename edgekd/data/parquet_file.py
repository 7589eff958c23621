"""Parquet: the same table as in text, with typed columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgekd.data.reading import Reading
from edgekd.data.recording import Recording
from edgekd.data.request import Request
from edgekd.data.suspects import recording_of
from edgekd.data.table.head import HEAD_LINES
from edgekd.data.table.plan import plan_of
from edgekd.data.table.read import told_of
from edgekd.data.table.rows import Pass
from edgekd.data.table.samples import reading_of
from edgekd.data.table.text import Found
from edgekd.data.table_file import entity_of
from edgekd.runtime.errors import MissingExtra, RecordingError
from edgekd.runtime.layout import PLAIN

SUFFIXES = (".parquet", ".pq")


def matches(path: Path) -> bool:
    """Whether a file is called like a Parquet file."""
    return path.is_file() and path.suffix.lower() in SUFFIXES


def load(request: Request) -> Recording:
    """All rows of a file, whatever part is asked for.

    Raises RecordingError naming what cannot be used.
    """
    return entity_of(request, recording_of(look(request)))


def look(request: Request) -> Reading:
    """All rows of a file, as they were read."""
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
    names = tuple(str(name).strip() for name in table.column_names)
    columns = [_column(table.column(i)) for i in range(len(names))]
    told, rule, period_s = told_of(request)
    head = list(zip(*(_texts(column[:HEAD_LINES]) for column in columns)))
    plan = plan_of(request, told, Found(PLAIN), names, head)
    passed = Pass(request.path, plan)
    cells = [
        column if i in passed.numbers and column.dtype != object else _texts(column) for i, column in enumerate(columns)
    ]
    passed.take(cells, np.arange(1, table.num_rows + 1))
    return reading_of(request, passed, rule, period_s, keep_rows=False)


def _column(column: Any) -> np.ndarray:
    """An Arrow column as float64 with NaN for null, or as objects: text, None for null."""
    import pyarrow as pa

    kind = column.type
    types = pa.types
    if any(is_kind(kind) for is_kind in (types.is_floating, types.is_integer, types.is_boolean, types.is_decimal)):
        return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(), dtype=np.float64)
    if types.is_timestamp(kind):
        moments = column.cast(pa.timestamp("us", kind.tz)).to_pylist()
        return np.array([None if at is None else at.isoformat() for at in moments], object)
    return np.array([None if value is None else str(value) for value in column.to_pylist()], object)


def _texts(column: np.ndarray) -> list[Any]:
    """Cells as a table of text would have them."""
    if column.dtype == object:
        return column.tolist()  # type: ignore[no-any-return]
    return [
        "" if value != value else str(int(value)) if value == int(value) else repr(value) for value in column.tolist()
    ]
