"""A file that is followed while it grows: through rotations, torn writes, a failing disk, and kills."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from device import PATIENCE_S, eventually, write_csv
from gateway_device import Gateway, events_of, run
from step_models import step_file, step_manifest, step_samples

from edgekd.runtime.errors import InputLost, UsageError
from edgekd.runtime.gateway.sources import growing_file as follow_file
from edgekd.runtime.gateway.sources.growing_file import GrowingFile
from edgekd.runtime.layout import PLAIN, Layout
from edgekd.runtime.sources import Row


class Followed:
    """A GrowingFile, turned by hand; each value is a number of its own."""

    def __init__(
        self, path: Path, position: object = None, columns: dict[str, str] | None = None, layout: Layout = PLAIN
    ) -> None:
        self.source = GrowingFile(path, step_manifest(1, 1), columns or {}, layout)
        self.sought = position is not None and self.source.seek_position(position)
        self.events: list[str] = []
        self._items: Iterator = iter(self.source)

    def values(self, count: int) -> list[float]:
        """The next values, so many and, a moment later, no more."""
        found: list[float] = []
        end = time.monotonic() + PATIENCE_S
        patience = 3
        while len(found) < count or patience:
            assert time.monotonic() < end, f"only {found}, {self.events}"
            for item in next(self._items):
                if isinstance(item, Row):
                    found.append(float(item.values[0]))
                else:
                    self.events.append(item.event)
            patience -= len(found) >= count
        return found


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow_file, "TICK_S", 0.02)


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def test_it_goes_on_at_the_end_and_a_torn_line_waits_for_its_newline(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("time,s0\na,1\nb,2\nc,")
    followed = Followed(path)
    assert followed.values(0) == []
    append(path, "3\nd,4\r\ne,5")
    assert followed.values(2) == [3, 4]
    append(path, "5")
    assert followed.values(0) == []
    before = time.monotonic()
    append(path, "\n")
    assert followed.values(1) == [55] and followed.source.rows.bad == 0
    assert followed.events == ["input_open"] and followed.source.lag_s < time.monotonic() - before


@pytest.mark.parametrize(
    ("head", "encoding"),
    [
        ("TIMESTAMP;Füllstand", "cp1252"),
        ('"TOA5","CR1000X"\nTIMESTAMP;Füllstand\nTS;m\n;Smp', ""),
        ("TIMESTAMP;Füllstand\r;m", ""),
    ],
)
def test_the_header_is_found_in_its_encoding_and_under_other_lines(tmp_path: Path, head: str, encoding: str) -> None:
    path = tmp_path / "x.csv"
    path.write_text(f"{head}\n2026-03-01;1,5\n", encoding or "utf-8", newline="")
    layout = Layout(encoding=encoding, separator=";", decimal=",")
    followed = Followed(path, columns={"s0": "Füllstand"}, layout=layout)
    assert followed.values(0) == []
    append(path, "2026-03-02;2,5\n")
    assert followed.values(1) == [2.5] and followed.source.rows.bad == 0
    with path.open("ab") as file:
        file.write("Füllstand;TIMESTAMP\n3,5;2026-03-03\n".encode(encoding or "utf-8"))
    assert followed.values(1) == [3.5] and followed.source.rows.bad == 0


def test_utf_16_cannot_be_followed(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="x: is in utf-16, which cannot be followed; have it written as UTF-8"):
        Followed(tmp_path / "x", layout=Layout(encoding="utf-16"))


def test_a_pipe_or_folder_in_its_place_is_waited_out(tmp_path: Path) -> None:
    log = tmp_path / "log"
    append(log, "0\n")
    followed = Followed(log)
    assert followed.values(0) == []
    log.unlink()
    for make, remove in ((os.mkfifo, os.unlink), (os.mkdir, os.rmdir)):
        make(log)
        assert followed.values(0) == []
        remove(log)
    append(log, "1\n2\n")
    assert followed.values(2) == [1.0, 2.0] and followed.events[-1] == "input_rotated"


def test_a_file_that_is_not_there_yet_is_read_from_its_start(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    followed = Followed(path)
    assert followed.values(0) == []
    path.write_text("s0\n1\n2\n")
    assert followed.values(2) == [1, 2]
    with pytest.raises(UsageError, match="is a directory"):
        GrowingFile(tmp_path, step_manifest(1, 1), {})
    with pytest.raises(InputLost, match="gave up"):
        list(GrowingFile(tmp_path / "none", step_manifest(1, 1), {}, give_up_after_s=0.1))


def test_renamed_and_created_anew(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("s0\n")
    followed = Followed(path)
    followed.values(0)
    with path.open("a") as writer:
        writer.write("1\n")
        path.rename(tmp_path / "x.csv.1")
        writer.write("2\n")
        writer.flush()
        assert followed.values(2) == [1, 2]
        path.write_text("")
        writer.write("3\n4")  # the logger has not been told yet; its last line is torn
    assert followed.values(1) == [3]
    append(path, "x,s0\n0,5\n")
    assert followed.values(1) == [5] and followed.source.rows.bad == 1
    assert followed.events == ["input_open", "input_rotated"] and followed.source.reconnects == 1


@pytest.mark.parametrize("copied", [True, False])
def test_copied_and_truncated(tmp_path: Path, copied: bool) -> None:
    path = tmp_path / "x.csv"
    path.write_text("s0\n" + "".join(f"{i}\n" for i in range(100)))
    followed = Followed(path)
    followed.values(0)
    append(path, "100\n101\n")  # not read yet
    if copied:
        shutil.copy(path, tmp_path / "x.csv.1")
    with path.open("r+") as file:
        file.truncate()
    append(path, "".join(f"{i}\n" for i in range(200, 400)))  # longer than it was when it was last read
    want = [100, 101] * copied + list(range(200, 400))
    assert followed.values(len(want)) == want and followed.source.rows.bad == 0
    assert followed.events == ["input_open", "input_rotated"]


def test_a_disk_that_fails_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.csv"
    path.write_text("s0\n1\n")
    followed = Followed(path)
    followed.values(0)
    append(path, "2\n3\n")
    assert followed.values(2) == [2, 3]
    real = os.pread

    def fail(fd: int, size: int, offset: int) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "pread", fail)
    append(path, "4\n")
    assert followed.values(0) == []
    monkeypatch.setattr(os, "pread", real)
    assert followed.values(1) == [4]


@pytest.mark.parametrize("since", ["nothing", "more", "rotated", "truncated", "replaced"])
def test_a_restart_goes_on_at_the_place(tmp_path: Path, since: str) -> None:
    path = tmp_path / "x.csv"
    path.write_text("s0\n1\n")
    first = Followed(path)
    first.values(0)
    append(path, "2\n3\n4")  # the last is torn
    assert first.values(2) == [2, 3]
    position = json.loads(json.dumps(first.source.position()))
    if since == "more":
        append(path, "0\n5\n")
    elif since == "rotated":
        append(path, "0\n5\n")
        path.rename(tmp_path / "x-1.csv")
        path.write_text("s0\n6\n")
    elif since == "truncated":
        path.write_text("s0\n6\n7\n8\n9\n10\n11\n")
    elif since == "replaced":
        path.rename(tmp_path / "gone")
        path.write_text("s0\n6\n")
        (tmp_path / "gone").unlink()
    want = {"nothing": [], "more": [40, 5], "rotated": [40, 5, 6], "truncated": [6, 7, 8, 9, 10, 11], "replaced": [6]}
    again = Followed(path, position)
    assert again.sought == (since in ("nothing", "more", "rotated"))
    assert again.values(len(want[since])) == want[since]


def test_what_is_appended_while_a_stopped_run_is_away_is_read(folder: Path, tmp_path: Path) -> None:
    header, *rows = (folder / "x.csv").read_text().splitlines(keepends=True)
    path = tmp_path / "x.csv"
    path.write_text(header)
    arguments = ("--model", folder / "m.onnx", "--csv", path, "--follow", "--state", tmp_path / "state", "--scores")
    scores = []
    for start in range(0, 160, 40):
        if start:
            append(path, "".join(rows[start : start + 40]))
        with Gateway(*arguments) as device:
            device.wait_for("input_open")
            if not start:
                append(path, "".join(rows[:40]))
            device.wait_for(lambda event, last=start + 39: event["event"] == "score" and event["sample"] == last)
            assert device.end(signal.SIGTERM) == 0
        scores += device.scores()
    assert scores == events_of(run("--model", folder / "m.onnx", "--csv", path, "--scores").stdout, "score")


@pytest.mark.parametrize("position", [None, 5, [], {}, {"file": 1, "offset": -1, "before": ""}, {"offset": True}])
def test_a_position_that_is_none_is_not_sought(tmp_path: Path, position: object) -> None:
    (tmp_path / "x.csv").write_text("s0\n1\n")
    assert GrowingFile(tmp_path / "x.csv", step_manifest(1, 1), {}).seek_position(position) is False


def test_killed_and_rotated_at_any_moment_the_scores_are_those_of_one_run(tmp_path: Path) -> None:
    model = step_file(tmp_path / "m.onnx", 3, 4, warmup=8, threshold=0.15)
    lines = write_csv(tmp_path / "all.csv", step_samples(3, 1200)).read_text().splitlines(keepends=True)
    want = events_of(run("--model", model, "--csv", tmp_path / "all.csv", "--scores").stdout, "score")
    path, fate, written = tmp_path / "x.csv", random.Random(0), 0
    path.write_text(lines[0])

    def log(until: int) -> None:
        """A logger: pieces of lines; rotates twice."""
        nonlocal written
        for i in range(written, until):
            if i in (400, 800):
                path.rename(tmp_path / f"x.csv.{i}")
                path.write_text(lines[0])
            cut = fate.randrange(len(lines[i + 1]))
            append(path, lines[i + 1][:cut])
            append(path, lines[i + 1][cut:])
            time.sleep(0.001)
        written = until

    arguments = ["--model", model, "--csv", path, "--follow", "--scores", "--state", tmp_path / "state"]
    arguments += ["--state-every", 0.05]
    told: list[dict] = []
    for running, down in ((380, 500), (900, 1000), (1200, 1200)):
        with Gateway(*arguments) as device:
            device.wait_for("input_open")
            if running == 900:  # who is not there may miss one rotation, not two
                device.wait_for(lambda event: event["event"] == "score" and event["sample"] > 450)
            logger = threading.Thread(target=log, args=[running])
            logger.start()
            at = want[-1]["sample"] if running == 1200 else running - fate.randrange(30, 200)
            device.wait_for(lambda event, at=at: event["event"] == "score" and event["sample"] >= at)
            device.process.kill()
            device.end()
            logger.join()
            told += device.scores()
        log(down)
    assert {event["sample"]: event for event in told} == {event["sample"]: event for event in want}
    assert all(event in want for event in told)


def test_a_neighbor_with_the_same_lines_is_no_copy(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    text = "s0\n" + "".join(f"{i}\n" for i in range(1000, 1200))
    (tmp_path / "all.csv").write_text(text + "".join(f"{i}\n" for i in range(5000, 6000)))
    path.write_text("s0\n")
    followed = Followed(path)
    followed.values(0)
    append(path, text.removeprefix("s0\n"))
    assert followed.values(200) == [*range(1000, 1200)]
    path.write_text("s0\n7\n")
    assert followed.values(1) == [7] and followed.events.count("input_rotated") == 1


def test_a_row_that_waits_is_read_again_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("time,s0\n")
    followed = Followed(path)
    followed.values(0)
    append(path, "".join(f"{1e9 + i},{i}\n" for i in range(40)))
    assert followed.values(40) == [*range(40)]
    append(path, f"{1e9 + 90},40\n")  # a gap, or damaged
    assert followed.values(0) == []
    again = Followed(path, followed.source.position())
    assert again.sought and again.values(1) == [40]


def test_lines_that_are_none_hold_up_none_of_those_behind_them(tmp_path: Path) -> None:
    path = tmp_path / "grows.csv"
    path.touch()
    with Gateway("--model", step_file(tmp_path / "m.onnx", 3, 4), "--csv", path, "--follow", "--scores") as device:
        device.wait_for("input_open")
        rows = (",".join(map(str, row)) for row in step_samples(3, 200))
        append(path, "".join(f"{row}\nnoise\n" for row in rows))
        eventually(lambda: len(device.scores()) == 50, "all scores", 10.0)
