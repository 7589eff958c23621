"""What the page asks of the history: curves, alarms and events of a span, JSON-able."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from edgekd.runtime.gateway.page.history import TIERS, array_of

MOST_POINTS = 1500  # of a curve: two for each pixel of a small screen, 110 kB before they are packed
MOST_SENSORS = 12  # at once
FIRST_SENSORS = 3  # where nobody asks for others
RANKED = 12
MOST_ROWS = 500  # of a table


def curves(
    db: sqlite3.Connection, stream: str, begin: float, end: float, sensors: Sequence[str], size: int | None = None
) -> dict[str, Any]:
    """Scores, what these sensors said, else those behind the scores, and the names of these.

    size: of an interval, one of `TIERS`; None: as fine as it goes.
    """
    size = size or _tier(db, stream, begin, end)
    rows = _intervals(db, stream, begin, end, size)
    names = {
        columns: json.loads(text)
        for columns, text in db.execute("SELECT id, names FROM columns")
        if any(row[1] == columns for row in rows)
    }
    ranked = _ranked(rows, names)
    return {
        "size": size,
        "time": [row[0] for row in rows],
        "anomalous": [row[2] for row in rows],
        "score": _numbers([row[3] for row in rows]),
        "threshold": _numbers([row[4] for row in rows]),
        "slow": _numbers([row[5] for row in rows]),
        "ranked": [{"name": name, "share": round(share, 3)} for name, share in ranked[:RANKED]],
        "sensors": [
            {"name": name, **dict(zip(("low", "high", "mean"), _curve(rows, names, name)))}
            for name in (sensors or [name for name, _ in ranked[:FIRST_SENSORS]])[:MOST_SENSORS]
        ],
    }


def alarms(db: sqlite3.Connection, stream: str, begin: float, end: float) -> list[dict[str, Any]]:
    """Those that touch the span, the newest first."""
    rows = db.execute(
        "SELECT id, kind, start, end, severity, sensors, mark, note FROM alarm"
        " WHERE stream = ? AND start <= ? AND ifnull(end, ?) >= ? ORDER BY start DESC LIMIT ?",
        (stream, end, end, begin, MOST_ROWS),
    )
    return [
        {
            "id": id, "kind": kind, "start": start, "end": ended, "severity": severity,
            "sensors": json.loads(sensors or "null") or [], "mark": None if mark is None else bool(mark),
            "note": note or "",
        }
        for id, kind, start, ended, severity, sensors, mark, note in rows
    ]  # fmt: skip


def events(
    db: sqlite3.Connection, stream: str, begin: float, end: float, most: int = MOST_ROWS
) -> list[dict[str, Any]]:
    """Those of the span, the newest first."""
    rows = db.execute(
        "SELECT time, json FROM event WHERE stream = ? AND time BETWEEN ? AND ? ORDER BY rowid DESC LIMIT ?",
        (stream, begin, end, most),
    )
    return [{"at": at, **json.loads(text)} for at, text in rows]


def counts(db: sqlite3.Connection, stream: str, begin: float) -> dict[str, int]:
    """How many events of each kind there were since then."""
    found = db.execute("SELECT kind, count(*) FROM event WHERE stream = ? AND time >= ? GROUP BY kind", (stream, begin))
    return dict(found.fetchall())


def marks(db: sqlite3.Connection, stream: str, begin: float, end: float) -> Iterator[tuple[str, str, str, str, str]]:
    """Rows of a file of marks: stream, start, end, mark, note. What lasts is marked up to now."""
    for start, ended, mark, note in db.execute(
        "SELECT start, ifnull(end, ?), mark, note FROM alarm WHERE stream = ? AND mark IS NOT NULL"
        " AND start <= ? AND ifnull(end, ?) >= ? ORDER BY start",
        (end, stream, end, end, begin),
    ):
        yield stream, iso(start), iso(ended), "true" if mark else "false", note or ""


def iso(seconds: float) -> str:
    """ISO 8601, UTC, to the millisecond."""
    told = datetime.fromtimestamp(round(seconds, 3), UTC).isoformat(timespec="milliseconds")
    return told.replace("+00:00", "Z").replace(".000Z", "Z")


def _tier(db: sqlite3.Connection, stream: str, begin: float, end: float) -> int:
    """The finest tier that reaches back so far, or as far as any, and has not too many points."""
    oldest = {
        size: db.execute("SELECT min(time) FROM interval WHERE stream = ? AND size = ?", (stream, size)).fetchone()[0]
        for size in TIERS
    }
    first = min((time for time in oldest.values() if time is not None), default=0)
    far = max(begin, first + max(TIERS))
    fitting = (size for size, time in oldest.items() if time is None or time <= far)
    return next((size for size in fitting if (end - begin) / size <= MOST_POINTS), max(TIERS))


def _intervals(db: sqlite3.Connection, stream: str, begin: float, end: float, size: int) -> list[Any]:
    """Those of a tier, and behind them finer ones: an interval is there when it is over."""
    rows: list[Any] = []
    covered = -math.inf  # seconds
    for finer in reversed([tier for tier in TIERS if tier <= size]):
        found = db.execute(
            "SELECT time, columns, anomalous, score, threshold, slow, low, high, mean, share FROM interval"
            " WHERE stream = ? AND size = ? AND time > ? AND time < ? ORDER BY time LIMIT ?",
            (stream, finer, max(begin - finer, covered), end, 2 * MOST_POINTS),
        ).fetchall()
        covered = found[-1][0] + finer - 1 if found else covered
        rows += found
    return rows


def _ranked(rows: list[Any], names: dict[int, list[str]]) -> list[tuple[str, float]]:
    """Sensors by their part of the scores, the largest first."""
    parts: dict[str, float] = {}
    for columns, of in names.items():
        chosen = [row for row in rows if row[1] == columns and row[3] is not None]
        if chosen:
            weights = np.maximum(np.array([row[3] for row in chosen]), 0.0)
            total = weights @ array_of([row[9] for row in chosen], "<f2").astype(float)  # (n,)
            parts.update(zip(of, total))
    whole = sum(max(part, 0.0) for part in parts.values()) or 1.0
    return sorted(((name, part / whole) for name, part in parts.items()), key=lambda item: -item[1])


def _curve(rows: list[Any], names: dict[int, list[str]], name: str) -> Iterator[list[float | None]]:
    """Low, high, mean of one sensor; None where it was not there."""
    places = {columns: of.index(name) for columns, of in names.items() if name in of}
    for field in (6, 7, 8):
        values = [
            np.frombuffer(row[field], "<f4", 1, 4 * places[row[1]])[0] if row[1] in places else np.nan for row in rows
        ]
        yield _numbers(values)


def _numbers(values: Sequence[Any]) -> list[float | None]:
    """To five digits, which is what a screen shows; None for what is none."""
    return [None if value is None or value != value else float(f"{value:.5g}") for value in values]
