"""What the page shows of the past, in one SQLite file: curves in intervals, events, and alarms with what people say.

The disk writer's thread alone writes, and each write is on disk when it is done; whoever reads opens the file anew. A
disk that takes nothing is told once and stops nothing: the newest intervals and events wait in memory. A file that is
damaged is put aside, told, and begun anew with the marks that can still be read. What is kept is bounded in rows, the
oldest of which go first, in the order in which they came: clocks jump.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import sqlite3
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from edgekd.runtime.errors import EdgeKDError, UsageError
from edgekd.runtime.gateway.disk_writer import DiskWriter
from edgekd.runtime.gateway.outbox import Tell
from edgekd.runtime.json_fields import shown

FINEST_S = 5
TIERS = {FINEST_S: 8640, 60: 10_080, 600: 4464, 3600: 744}
"""Length of an interval in seconds -> how many are kept: 12 hours, a week, and a month twice."""
MAX_BYTES = 256 * 2**20  # of the intervals of a stream; 500 sensors fill it in a month
ROW_BYTES, SENSOR_BYTES = 200, 14  # what an interval takes, and a sensor in it
EVENTS_KEPT = 20_000  # of a stream; so many alarms, too
MARKS_KEPT = 20_000
DROPPED = 64  # rows at once, by which there may be too many
WAITING = 2000  # intervals and events that a disk which takes nothing is spared
ANSWER_S = 5.0
VERSION = 1
APPLICATION = 0xED6E  # tells it from another program's file
SCHEMA = """
CREATE TABLE IF NOT EXISTS columns (id INTEGER PRIMARY KEY, names TEXT UNIQUE);
CREATE TABLE IF NOT EXISTS interval (
    stream TEXT, size INTEGER, time INTEGER, columns INTEGER, samples INTEGER, hops INTEGER, anomalous INTEGER,
    score REAL, threshold REAL, slow REAL, low BLOB, high BLOB, mean BLOB, share BLOB,
    UNIQUE (stream, size, time) ON CONFLICT REPLACE);
CREATE INDEX IF NOT EXISTS interval_age ON interval (stream, size);
CREATE TABLE IF NOT EXISTS event (id TEXT UNIQUE ON CONFLICT IGNORE, stream TEXT, time REAL, kind TEXT, json TEXT);
CREATE INDEX IF NOT EXISTS event_time ON event (stream, time);
CREATE TABLE IF NOT EXISTS alarm (
    id TEXT UNIQUE ON CONFLICT IGNORE, stream TEXT, kind TEXT, start REAL, end REAL, severity REAL, sensors TEXT,
    mark INTEGER, note TEXT);
CREATE INDEX IF NOT EXISTS alarm_time ON alarm (stream, start);
"""
MARKED_BY_HAND = "marked"
"""Kind of an alarm that only people have seen."""


class Unkept(EdgeKDError):
    """Somebody's mark did not come to disk."""


@dataclass(slots=True)
class Interval:
    """What a stream did in one; arrays are float32 (n,)."""

    stream: str
    time: int
    sensors: tuple[str, ...]
    samples: int
    hops: int
    anomalous: int
    """Hops with an anomaly."""
    score: float | None
    """The largest; None in a warm-up."""
    threshold: float
    slow: float | None
    low: np.ndarray
    high: np.ndarray
    mean: np.ndarray
    share: np.ndarray
    """Each sensor's part of the largest score."""


@dataclass(slots=True)
class Event:
    """One that was told."""

    stream: str
    time: float
    start: float
    """Of an alarm: when it began."""
    fields: Mapping[str, Any]


class History:
    """The file. `add` is for the loop's thread, `read`, `mark` and `settle` for any."""

    def __init__(self, path: str, writer: DiskWriter, tell: Tell) -> None:
        self.problem = ""
        """Why nothing is kept now; empty where all is well."""
        self.changes = 0
        """Counts events, alarms and marks, so that a reader knows when to look."""
        self._path = Path(path)
        self._shown = shown(path, 300)
        self._writer = writer
        self._tell = tell
        self._waiting: deque[Interval | Event] = deque(maxlen=WAITING)
        self._scheduled = False
        self._db: sqlite3.Connection | None = None  # the writer's
        self._newest: dict[str, int] = {}  # stream -> time of its newest interval
        self._added: Counter[tuple[Any, ...]] = Counter()  # rows of each kind
        self._writer.submit(self._save)
        self._writer.flush(ANSWER_S)  # at the start nothing is missed while the disk is waited for

    def add(self, what: Interval | Event) -> None:
        """Keep it: an interval now, with the events since the last. A write for each event would wear a card out."""
        self._waiting.append(what)
        within_s = FINEST_S if isinstance(what, Event) else 0.0
        if self._scheduled:
            self._writer.hurry(within_s)
            return
        self._scheduled = True
        if not self._writer.submit(self._save, within_s):
            self._scheduled = False

    def settle(self, stream: str, open_kinds: set[str]) -> None:
        """Alarms of other kinds than these, whose end nobody has seen, ended when the stream was last seen."""

        def close(db: sqlite3.Connection) -> None:
            ended = db.execute("SELECT max(time) FROM interval WHERE stream = ? AND size = ?", (stream, FINEST_S))
            kinds = json.dumps(sorted(open_kinds))
            db.execute(
                "UPDATE alarm SET end = max(start, ifnull(?, start)) WHERE stream = ? AND end IS NULL"
                " AND kind NOT IN (SELECT value FROM json_each(?))",
                (*ended.fetchone(), stream, kinds),
            )

        def write() -> None:
            self._attempt(close)

        self._writer.submit(write)

    def mark(
        self, stream: str, alarm: str | None, span: tuple[float, float] | None, mark: bool | None, note: str
    ) -> None:
        """What somebody says of an alarm, or of a span where none was told. Raises Unkept, UsageError.

        mark: whether it was a true one; None takes back what was said, and with it a span marked by hand.
        """
        answers: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()

        def write() -> None:
            try:
                problem = self._attempt(lambda db: _mark(db, stream, alarm, span, mark, note))
                answers.put(Unkept(problem) if problem else None)
            except UsageError as error:
                answers.put(error)

        try:
            answer = answers.get(timeout=ANSWER_S) if self._writer.submit(write) else Unkept("the disk is too slow")
        except queue.Empty:
            answer = Unkept("the disk does not answer; look later whether it was kept")
        if answer:
            raise answer

    @contextlib.contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A connection that changes nothing. Raises Unkept where there is nothing to read."""
        try:
            uri = f"file:{quote(os.path.abspath(self._path))}?mode=ro"  # noqa: PTH100 - resolves no link
            with contextlib.closing(sqlite3.connect(uri, uri=True)) as db:
                yield db
        except sqlite3.DatabaseError as error:
            raise Unkept(f"the history cannot be read: {self.problem or error}") from None

    def _save(self) -> None:
        """The writer's part: everything that waits, in one transaction."""
        self._scheduled = False
        batch = []
        while self._waiting:
            batch.append(self._waiting.popleft())
        if self._attempt(lambda db: self._write(db, batch)):
            room = WAITING - len(self._waiting)
            self._waiting.extendleft(reversed(batch[max(0, len(batch) - room) :]))

    def _attempt(self, write: Callable[[sqlite3.Connection], None]) -> str:
        """Write; why that did not work, empty where it did."""
        for last in (False, True):
            try:
                self._db = self._db if self._db and self._path.exists() else self._open()
                with self._db:
                    write(self._db)
            except (sqlite3.OperationalError, OSError) as error:  # full, read-only, away, locked
                self._newest.clear()
                return self._told(getattr(error, "strerror", None) or str(error))
            except sqlite3.DatabaseError as error:
                if last or type(error) is not sqlite3.DatabaseError:
                    raise
                self._put_aside(str(error))
            else:
                break
        self.changes += 1
        return self._told("")

    def _told(self, problem: str) -> str:
        """Tell that nothing is kept, once, and that it is again."""
        if bool(problem) != bool(self.problem):
            if problem:
                words = f"cannot keep the page's history in {self._shown}: {problem}; detection goes on"
                self._tell("history_failed", words, {"reason": problem})
            else:
                self._tell("history_back", f"the page's history is kept in {self._shown} again", {})
        self.problem = problem
        return problem

    def _open(self) -> sqlite3.Connection:
        """Raises sqlite3.DatabaseError itself, and no other kind, where it is damaged or of another version."""
        if self._db:
            self._db.close()
            self._db = None
        db = sqlite3.connect(self._path, check_same_thread=False)
        try:
            if (found := db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
                raise sqlite3.DatabaseError(found.splitlines()[-1])
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if version not in (0, VERSION):
                raise sqlite3.DatabaseError(f"it is of version {version}")
            db.execute(f"PRAGMA application_id = {APPLICATION}")  # first, so that no file of ours is without
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")  # with less, a power cut takes what came since the last checkpoint
            db.executescript(f"PRAGMA user_version = {VERSION}; {SCHEMA}")
        except BaseException:
            db.close()
            raise
        self._newest = dict(db.execute("SELECT stream, time FROM interval WHERE size = ? ORDER BY rowid", (FINEST_S,)))
        return db

    def _put_aside(self, why: str) -> None:
        marks = _readable_marks(self._path)
        if self._db:
            with contextlib.suppress(sqlite3.Error):
                self._db.close()
        self._db = None
        kept = Path(f"{self._path}.corrupt")
        for end in ("", "-wal", "-shm"):
            with contextlib.suppress(OSError):
                Path(f"{self._path}{end}").replace(f"{kept}{end}")
        words = f"the page's history {self._shown} is damaged ({shown(why, 100)}); kept as {shown(str(kept), 300)}"
        told = f"{words}; begun anew with {len(marks)} marks of it"
        self._tell("history_damaged", told, {"reason": why, "marks": len(marks)})
        with contextlib.suppress(sqlite3.Error):  # told at the next attempt
            self._db = self._open()
            with self._db:
                self._db.executemany("INSERT INTO alarm VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", marks)

    def _write(self, db: sqlite3.Connection, batch: list[Interval | Event]) -> None:
        newest = dict(self._newest)
        for what in batch:
            if isinstance(what, Event):
                self._write_event(db, what)
                continue
            before = newest.get(what.stream, what.time)
            for finer, size in zip(list(TIERS), list(TIERS)[1:]):
                if before // size != what.time // size:
                    self._join(db, what.stream, finer, size, before // size * size)
            self._write_interval(db, FINEST_S, what)
            newest[what.stream] = what.time
        self._newest = newest

    def _write_interval(self, db: sqlite3.Connection, size: int, what: Interval) -> None:
        names, extent = json.dumps(what.sensors), (what.low, what.high, what.mean)
        db.execute("INSERT OR IGNORE INTO columns (names) VALUES (?)", (names,))
        (columns,) = db.execute("SELECT id FROM columns WHERE names = ?", (names,)).fetchone()
        db.execute(
            "INSERT INTO interval VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                what.stream, size, what.time, columns, what.samples, what.hops, what.anomalous, what.score,
                what.threshold, what.slow, *(array.astype("<f4").tobytes() for array in extent),
                what.share.astype("<f2").tobytes(),
            ),
        )  # fmt: skip
        kept = kept_of(size, len(what.sensors))
        self._drop_oldest(db, "interval", "stream = ? AND size = ?", (what.stream, size), kept)

    def _join(self, db: sqlite3.Connection, stream: str, finer: int, size: int, begin: int) -> None:
        """The intervals of one tier that lie in one of the next, as that one."""
        rows = db.execute(
            "SELECT columns, samples, hops, anomalous, score, threshold, slow, low, high, mean, share FROM interval"
            " WHERE stream = ? AND size = ? AND time >= ? AND time < ? ORDER BY time",
            (stream, finer, begin, begin + size),
        ).fetchall()
        rows = [row for row in rows if row[0] == rows[-1][0]]  # of the newest model, where it was exchanged
        if not rows:
            return
        (names,) = db.execute("SELECT names FROM columns WHERE id = ?", (rows[0][0],)).fetchone()
        _, samples, hops, anomalous, scores, thresholds, slow, lows, highs, means, shares = zip(*rows)
        largest = max(range(len(rows)), key=lambda i: -np.inf if scores[i] is None else scores[i])
        mean = array_of(means)
        weight = np.array(samples, float)[:, None] * np.isfinite(mean)
        with np.errstate(invalid="ignore"):  # a sensor that was never there
            mean = np.nansum(mean * weight, axis=0) / weight.sum(axis=0)
        self._write_interval(db, size, Interval(
            stream, begin, tuple(json.loads(names)), sum(samples), sum(hops), sum(anomalous),
            scores[largest], thresholds[-1], max((value for value in slow if value is not None), default=None),
            np.fmin.reduce(array_of(lows)), np.fmax.reduce(array_of(highs)), mean.astype(np.float32),
            array_of(shares, "<f2")[largest],
        ))  # fmt: skip

    def _write_event(self, db: sqlite3.Connection, event: Event) -> None:
        fields, stream = event.fields, event.stream
        kind, slow, severity = fields["event"], str(fields.get("kind", "")), fields.get("severity")
        row = (fields["id"], stream, event.time, kind, json.dumps(dict(fields)))
        db.execute("INSERT INTO event VALUES (?, ?, ?, ?, ?)", row)
        self._drop_oldest(db, "event", "stream = ?", (stream,), EVENTS_KEPT)
        if kind == "anomaly":
            end = event.time if "frame" in fields else None  # an image's alarm does not last
            alarm = (fields["id"], stream, slow, event.start, end, severity, json.dumps(fields.get("sensors")))
            db.execute("INSERT INTO alarm VALUES (?, ?, ?, ?, ?, ?, ?, NULL, NULL)", alarm)
            self._drop_oldest(db, "alarm", "stream = ? AND mark IS NULL", (stream,), EVENTS_KEPT)
        elif kind == "anomaly_end":
            db.execute(
                "UPDATE alarm SET end = max(start, ?), severity = max(severity, ifnull(?, severity))"
                " WHERE stream = ? AND kind = ? AND end IS NULL",
                (event.time, severity, stream, slow),
            )

    def _drop_oldest(self, db: sqlite3.Connection, table: str, where: str, values: tuple[Any, ...], kept: int) -> None:
        """Some at a time: to take one for each that comes would write twice as much."""
        self._added[table, *values] += 1
        if self._added[table, *values] % DROPPED == 0:
            db.execute(
                f"DELETE FROM {table} WHERE {where} AND rowid <="
                f" (SELECT rowid FROM {table} WHERE {where} ORDER BY rowid DESC LIMIT 1 OFFSET {kept})",
                values * 2,
            )


def require_history(path: str) -> None:
    """Raise UsageError where something is that never was a history; one that is damaged, or all zeros, was."""
    if os.path.exists(path) and not os.path.isfile(path):  # noqa: PTH110, PTH113 - neither raises
        raise UsageError(f"history {shown(path, 300)}: is no regular file; give another name")
    with contextlib.suppress(OSError), Path(path).open("rb") as file:  # which is told later, and stops nothing
        head = file.read(72)
        ours = head[:16] == b"SQLite format 3\0" and head[68:] == APPLICATION.to_bytes(4, "big")
        if head.strip(b"\0") and not ours:
            raise UsageError(f"history {shown(path, 300)}: is another program's file; give another name")


def kept_of(size: int, sensors: int) -> int:
    """How many intervals of a tier are kept."""
    month_bytes = sum(TIERS.values()) * (ROW_BYTES + SENSOR_BYTES * sensors)
    return round(TIERS[size] * min(1.0, MAX_BYTES / month_bytes))


def array_of(blobs: tuple[bytes, ...] | list[bytes], kind: str = "<f4") -> np.ndarray:
    """(intervals, n) of what they hold."""
    return np.frombuffer(b"".join(blobs), kind).reshape(len(blobs), -1)


def _mark(
    db: sqlite3.Connection,
    stream: str,
    alarm: str | None,
    span: tuple[float, float] | None,
    mark: bool | None,
    note: str,
) -> None:
    (marks,) = db.execute("SELECT count(*) FROM alarm WHERE mark IS NOT NULL").fetchone()
    if mark is not None and marks >= MARKS_KEPT:
        raise UsageError(f"{MARKS_KEPT} marks are kept already; download them, and take some back")
    if span is not None:
        values = (f"mark-{os.urandom(6).hex()}", stream, MARKED_BY_HAND, *span, mark, note)
        db.execute("INSERT INTO alarm VALUES (?, ?, ?, ?, ?, NULL, NULL, ?, ?)", values)
    elif not db.execute(
        "UPDATE alarm SET mark = ?, note = ? WHERE id = ? AND stream = ?", (mark, note, alarm, stream)
    ).rowcount:
        raise UsageError("this alarm is not kept any more")
    elif mark is None:
        db.execute("DELETE FROM alarm WHERE id = ? AND kind = ?", (alarm, MARKED_BY_HAND))


def _readable_marks(path: Path) -> list[tuple[Any, ...]]:
    """What people have said, as far as a damaged file still has it."""
    found: list[tuple[Any, ...]] = []
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(path)) as db:
        for row in db.execute("SELECT * FROM alarm WHERE mark IS NOT NULL LIMIT ?", (MARKS_KEPT,)):
            found.append(row)  # one by one: up to the damage
    return found
