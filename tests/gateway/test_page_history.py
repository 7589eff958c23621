"""What the page keeps of the past: over kills, full disks, damage, clocks that jump, and for how long."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from device import eventually
from page_device import BEGIN, FAULTS, HOSTILE, NAME, PageGateway, hostile_model, lines

from edgekd.runtime.gateway.disk_writer import DiskWriter
from edgekd.runtime.gateway.page import history as module
from edgekd.runtime.gateway.page import queries
from edgekd.runtime.gateway.page.history import Event, History, Interval, Unkept

ALL = {"from": BEGIN - 10, "to": BEGIN + 100_000}


class Kept:
    """A history, and what it has told."""

    def __init__(self, path: Path) -> None:
        self.told: list[str] = []
        self.writer = DiskWriter()
        self.history = History(str(path), self.writer, lambda kind, words, fields: self.told.append(kind))

    def add(self, *times: int, score: float = 1.0, value: float = 0.0, sensors: tuple[str, ...] = ("a", "b")) -> None:
        for time in times:
            n = len(sensors)
            low, high = np.full(n, value - 1, "f"), np.full(n, value + 1, "f")
            mean, share = np.array([value, *[np.nan] * (n - 1)], "f"), np.eye(1, n, dtype="f")[0]
            self.history.add(Interval("s", time, sensors, 10, 2, 1, score, 3.0, None, low, high, mean, share))
        assert self.writer.flush(10)

    def event(self, event: str, time: float, **fields: Any) -> None:
        fields = {"event": event, "id": f"{time}-{event}", **fields}
        self.history.add(Event("s", time, time, fields))
        assert self.writer.flush(10)

    def curves(self, begin: float, end: float, *sensors: str) -> dict[str, Any]:
        with self.history.read() as db:
            return queries.curves(db, "s", begin, end, sensors)

    def alarms(self) -> list[dict[str, Any]]:
        with self.history.read() as db:
            return queries.alarms(db, "s", 0, 1e10)


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path / "history")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(module, "TIERS", {5: 24, 60: 12, 600: 3})
    monkeypatch.setattr(queries, "TIERS", module.TIERS)
    monkeypatch.setattr(module, "DROPPED", 1)
    monkeypatch.setattr(queries, "MOST_POINTS", 30)
    yield


@pytest.mark.usefixtures("small")
def test_what_is_old_is_kept_coarser_and_bounded(kept: Kept) -> None:
    for i in range(800):
        kept.history.add(interval(5 * i, score=float(i % 100)))
    assert kept.writer.flush(10)
    found = kept.curves(0, 4000, "a")
    assert found["size"] == 600 and found["time"][0] == 1800  # the oldest went
    assert found["time"][-1] == 3995 and found["score"][0] == 99.0  # the newest is there, and no peak is lost
    (a,) = found["sensors"]
    assert a["low"][0] == 1800 - 1 and a["high"][0] == 2395 + 1 and a["mean"][0] == pytest.approx(2097.5)
    assert [row[0] for row in rows(kept, "SELECT count(*) FROM interval GROUP BY size ORDER BY size")] == [24, 12, 3]
    fine = kept.curves(3900, 4000, "a")
    assert fine["size"] == 5 and len(fine["time"]) == 20


def interval(time: int, score: float) -> Interval:
    low, high, mean = np.array([[time - 1], [time + 1], [time]], "f")
    return Interval("s", time, ("a",), 10, 2, 1, score, 3.0, None, low, high, mean, np.ones(1, "f"))


def rows(kept: Kept, sql: str) -> list[Any]:
    with kept.history.read() as db:
        return db.execute(sql).fetchall()


@pytest.mark.usefixtures("small")
def test_a_clock_that_was_years_ahead_for_a_while_hides_nothing(kept: Kept) -> None:
    kept.add(*range(0, 100, 5))
    kept.add(*range(10**9, 10**9 + 500, 5))
    kept.add(*range(100, 250, 5))
    assert kept.curves(100, 250)["time"] == list(range(130, 250, 5))
    assert kept.curves(0, 250)["time"][0] == 60  # of the minutes


def test_sensors_of_another_model_stand_beside_those_of_the_old_one(kept: Kept) -> None:
    kept.add(0, 5, value=1.0)
    kept.add(10, 15, value=2.0, sensors=("b", "c", "a"))
    a, c = kept.curves(0, 20, "a", "c")["sensors"]
    assert a["low"] == [0, 0, 1, 1] and c["low"] == [None, None, 1, 1]
    assert a["mean"] == [1, 1, None, None]


def test_an_alarm_whose_end_nobody_saw_ends_where_the_stream_did(kept: Kept) -> None:
    kept.event("anomaly", 100.0, sensors=["a"], severity=2.0)
    kept.event("anomaly", 101.0, sensors=["a"], severity=1.5, kind="slow")
    kept.add(95, 100, 105, 110)
    kept.history.settle("s", {"slow"})
    kept.writer.flush(10)
    slow, fast = kept.alarms()
    assert (slow["kind"], slow["end"], fast["end"]) == ("slow", None, 110)
    kept.event("anomaly_end", 120.0, kind="slow", severity=4.0)
    assert kept.alarms()[0]["end"] == 120 and kept.alarms()[0]["severity"] == 4.0


def test_a_disk_that_is_full_is_said_once_and_what_came_meanwhile_is_kept(kept: Kept) -> None:
    kept.add(0)
    db = kept.history._db
    assert db
    (pages,) = db.execute("PRAGMA page_count").fetchone()
    db.execute(f"PRAGMA max_page_count = {pages}")
    kept.add(*range(5, 1000, 5))
    assert kept.told == ["history_failed"] and "full" in kept.history.problem
    with pytest.raises(Unkept, match="full"):
        for _ in range(200):
            kept.history.mark("s", None, (1.0, 2.0), True, "x" * 1000)
    db.execute("PRAGMA max_page_count = 100000")
    kept.add(1000)
    assert kept.told[-1] == "history_back" and not kept.history.problem
    assert kept.curves(0, 1005)["time"] == list(range(0, 1005, 5))


def test_what_waits_for_a_disk_is_bounded(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "not there" / "history")
    kept.add(*range(0, 5 * (module.WAITING + 500), 5))
    assert kept.told == ["history_failed"] and len(kept.history._waiting) == module.WAITING
    (tmp_path / "not there").mkdir()
    kept.add(10**6)
    assert kept.told[1:] == ["history_back"] and len(rows(kept, "SELECT 1 FROM interval WHERE size = 5")) >= 1999


@pytest.mark.parametrize("damage", ["header", "pages", "zeros", "later version"])
def test_a_damaged_file_is_put_aside_and_begun_anew_with_what_people_have_said(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "history"
    kept = Kept(path)
    kept.add(*range(0, 5000, 5))
    kept.history.mark("s", None, (1.0, 2.0), False, "the valve")
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        if damage == "later version":
            db.execute("PRAGMA user_version = 2")
    size = path.stat().st_size
    with path.open("r+b") as file:
        if damage == "pages":
            file.seek(size // 2)
            file.write(b"\xff" * 50_000)
        elif damage != "later version":
            file.write(b"\0" * size if damage == "zeros" else b"\xff" * 200)
    again = Kept(path)
    again.add(9000)
    assert again.told == ["history_damaged"] and not again.history.problem
    assert (tmp_path / "history.corrupt").stat().st_size == size
    marks = [(alarm["mark"], alarm["note"]) for alarm in again.alarms()]
    assert marks == ([(False, "the valve")] if damage in ("pages", "later version") else [])
    assert again.curves(8000, 10_000)["time"] == [9000]


def test_a_file_that_somebody_removes_is_made_anew(kept: Kept, tmp_path: Path) -> None:
    kept.add(0)
    for path in tmp_path.glob("history*"):
        path.unlink()
    kept.add(5, 10)
    assert kept.curves(0, 20)["time"] == [5, 10]


def test_a_kill_takes_no_more_than_the_newest_seconds(tmp_path: Path) -> None:
    model = hostile_model(tmp_path / "m.onnx")
    arguments = ("--state", tmp_path / "state")
    with PageGateway(model, *arguments) as gateway:
        gateway.feed(lines(0, FAULTS[0][0] + 20))
        gateway.seen(FAULTS[0][0] + 10)
        eventually(lambda: len(gateway.api("alarms", **ALL)) == 1, "that the alarm is kept")
        (alarm,) = gateway.api("alarms", **ALL)
        gateway.api("mark", {"stream": NAME, "alarm": alarm["id"], "mark": True, "note": "pump"})
        told = gateway.api("stream")["now"]
        gateway.end(signal.SIGKILL)
    with PageGateway(model, *arguments) as gateway:
        found = gateway.api("curves", **ALL)
        assert found["time"][0] == BEGIN and found["time"][-1] >= told - 10
        (alarm,) = gateway.api("alarms", **ALL)
        assert (alarm["mark"], alarm["note"]) == (True, "pump")
        assert alarm["end"] in (None, found["time"][-1])  # as the state has seen it, or not yet
        gateway.feed(lines(FAULTS[0][1] + 5, FAULTS[0][1] + 200))
        eventually(lambda: gateway.api("curves", **ALL)["time"][-1] > BEGIN + FAULTS[0][1], "that it goes on")
        assert all(alarm["end"] for alarm in gateway.api("alarms", **ALL))


def test_a_run_on_a_disk_that_takes_no_history_detects_and_the_page_says_so(tmp_path: Path) -> None:
    model = hostile_model(tmp_path / "m.onnx")
    with PageGateway(model, "--history", tmp_path / "nowhere" / "history") as gateway:
        assert gateway.wait_for("history_failed")["reason"]
        gateway.feed(lines(0, FAULTS[0][0] + 20))
        assert gateway.wait_for("anomaly")["sensors"][0] == HOSTILE[0]
        told = gateway.api("streams")
        assert told["streams"][0]["state"] == "alarm" and told["problem"] == "unable to open database file"
