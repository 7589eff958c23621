"""Where events wait until they are delivered: what a power cut, a full disk or a sink that is away does to them."""

from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from broker import eventually
from gateway_device import Gateway, run

from edgekd.runtime import UsageError
from edgekd.runtime.gateway import outbox as outbox_module
from edgekd.runtime.gateway import segments
from edgekd.runtime.gateway.cursor import Cursor
from edgekd.runtime.gateway.disk_writer import DiskWriter
from edgekd.runtime.gateway.outbox import MIN_BYTES, Outbox
from edgekd.runtime.gateway.segments import Record, line_of, load_acked, save_acked
from edgekd.runtime.sinks import encode


def event(number: int, size: int = 0) -> dict[str, Any]:
    return {"event": "test", "number": number, "fill": "x" * size}


class Full:
    """`atomic` on a disk that is full."""

    def __init__(self, *_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Box:
    """An outbox with its writer, and one sink that acknowledges only when it is told to."""

    def __init__(self, folder: Path, limit_bytes: int = MIN_BYTES, patient: bool = False) -> None:
        self.told: list[str] = []
        self.writer = DiskWriter()
        self.outbox = Outbox(folder, limit_bytes, self.writer, lambda kind, *_: self.told.append(kind), patient)
        self.sink = self.cursor("sink")

    def cursor(self, name: str) -> Cursor:
        return self.outbox.cursor(name, lambda: None)

    def put(self, *numbers: int, size: int = 0) -> None:
        for number in numbers:
            self.outbox.append(event(number, size))
        self.writer.flush()

    def check(self) -> None:
        """What is done now and then."""
        self.outbox._check_due = 0.0
        self.outbox.tick()
        self.writer.flush()

    def repair(self) -> None:
        """What is done now and then, less often."""
        self.outbox._repair_due = 0.0
        self.check()

    def close(self) -> None:
        self.outbox.close()
        self.writer.submit(sys.exit)  # ends its thread


def numbers(cursor: Cursor, limit: int = 100_000) -> list[int]:
    """The events that are offered."""
    found = []
    while records := cursor.read(limit):
        found += [int(record.text.split(b'"number": ')[1].split(b",")[0]) for record in records]
    return found


def kept(folder: Path) -> list[int]:
    """The events that a fresh start offers to a sink that has acknowledged nothing."""
    box = Box(folder)
    found = numbers(box.cursor("fresh"))
    box.close()
    return found


def test_power_cut_at_every_byte_of_the_last_segment(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    box = Box(whole)
    ends = [0]
    for number in range(4):
        box.put(number)
        ends.append(box.outbox.bytes)
    box.close()
    (segment,) = whole.glob("*.events")
    for size in range(ends[-1] + 1):
        shutil.copytree(whole, cut)
        os.truncate(cut / segment.name, size)
        survivors = [number for number in range(4) if ends[number + 1] <= size]
        box = Box(cut)
        assert numbers(box.sink) == survivors
        assert box.outbox.corrupt == (size not in ends) == ("outbox_damaged" in box.told)
        box.put(7)
        assert numbers(box.sink) == [7]
        box.close()
        if size % 8 == 0 or size in ends:
            assert kept(cut) == [*survivors, 7]
        shutil.rmtree(cut)


def test_a_corrupt_record_is_left_out_and_counted(tmp_path: Path) -> None:
    folder = tmp_path / "outbox"
    box = Box(folder)
    box.put(*range(5))
    box.close()
    (segment,) = folder.glob("*.events")
    data = segment.read_bytes()
    start, end = [at for at, byte in enumerate(data) if byte == 10][1:3]
    for at in range(start + 1, end + 1):
        for flipped in (data[at] ^ 1, data[at] ^ 0x80, 10):
            if flipped == data[at]:
                continue
            segment.write_bytes(data[:at] + bytes([flipped]) + data[at + 1 :])
            box = Box(folder)
            assert box.outbox.corrupt > 0
            # the end of a line that is no end any more takes the next record with it
            assert numbers(box.sink) == ([0, 1, 4] if at == end else [0, 1, 3, 4])
            box.close()


def test_what_a_sink_has_acknowledged_survives_a_cut_at_every_byte(tmp_path: Path) -> None:
    path = tmp_path / "sink.acked"
    for seq in range(1, 12):
        before = path.read_bytes() if path.exists() else b""
        save_acked(path, seq)
        after = path.read_bytes()
        changed = [at for at in range(len(after)) if before[at : at + 1] != after[at : at + 1]]
        for at in range(min(changed), max(changed) + 1):
            path.write_bytes(after[:at] + before[at:])
            assert load_acked(path) in (seq - 1, seq)
        path.write_bytes(after)
        assert load_acked(path) == seq
    path.write_bytes(b"\xff" * 100)
    assert load_acked(path) == 0


def test_an_event_stays_until_every_sink_has_it(tmp_path: Path) -> None:
    folder = tmp_path / "outbox"
    box = Box(folder)
    down = box.cursor("down")
    box.put(*range(1000), size=300)  # several segments
    assert numbers(box.sink) == list(range(1000)) and box.outbox.depth == 1000
    box.sink.ack(1000)
    assert box.outbox.depth == 1000
    box.close()
    box = Box(folder)
    down = box.cursor("down")
    assert numbers(box.sink) == [] and numbers(down, 7) == list(range(1000))
    down.ack(400)
    down.rewind()
    assert numbers(down, 7) == list(range(400, 1000)) and box.outbox.depth == 600
    assert box.outbox.bytes > 200_000
    down.ack(1000)
    box.writer.flush()
    assert box.outbox.depth == 0 and box.outbox.bytes < 200_000  # the newest segment is still there
    assert box.outbox.dropped == 0 and box.told == []
    box.put(1000)  # numbers go on, also where nothing is left to tell them from
    assert numbers(down) == numbers(box.sink) == [1000]
    box.close()


def test_the_bound_holds_and_the_oldest_go_first(tmp_path: Path) -> None:
    folder = tmp_path / "outbox"
    box = Box(folder)
    box.outbox.tick()
    for start in range(0, 5000, 50):
        box.put(*range(start, start + 50), size=400)
        assert sum(path.stat().st_size for path in folder.iterdir()) <= MIN_BYTES
    box.outbox.tick()
    assert box.told == ["outbox_dropped"]
    left = numbers(box.sink)
    assert left == list(range(5000 - len(left), 5000)) and len(left) > 1500
    assert box.outbox.dropped == 5000 - len(left) and box.outbox.depth == len(left)
    box.close()
    assert kept(folder) == left


def test_sequence_numbers_go_on_after_everything_was_delivered_and_removed(tmp_path: Path) -> None:
    folder = tmp_path / "outbox"
    box = Box(folder)
    box.put(0, 1)
    numbers(box.sink)
    box.sink.ack(2)
    box.close()
    for segment in folder.glob("*.events"):
        segment.unlink()
    box = Box(folder)
    box.put(2)
    (record,) = box.sink.read(5)
    assert record.seq == 3 and b'"seq": 3, "boot": "' in record.payload
    box.close()


class SickDisk:
    """Stands for the module `os` in the outbox: the calls that write fail from the `first` one on, until it is healed.

    Half of the data of a write that fails may be on disk.
    """

    def __init__(self, first: int, count: int, code: int = errno.ENOSPC) -> None:
        self.calls = 0
        self._first, self._end, self._code = first, first + count, code

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in ("open", "write", "fsync", "ftruncate"):
            return real

        def call(*arguments: Any) -> Any:
            if name == "open" and not arguments[1] & os.O_WRONLY:
                return real(*arguments)
            self.calls += 1
            if self._first <= self.calls < self._end:
                if name == "write":
                    real(arguments[0], arguments[1][: len(arguments[1]) // 2])
                raise OSError(self._code, os.strerror(self._code))
            return real(*arguments)

        return call

    def heal(self) -> None:
        self._end = self.calls


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Failures are tried again at once."""
    monkeypatch.setattr(outbox_module, "RETRY_S", 0.0)
    yield


@pytest.mark.parametrize("count", [1, 2, 3, 10**9])
def test_disk_full_at_each_write_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, impatient: None, count: int
) -> None:
    for first in itertools.count(1):
        disk = SickDisk(first, count)
        monkeypatch.setattr(outbox_module, "os", disk)
        folder = tmp_path / f"{first}"
        box = Box(folder)
        offered: list[int] = []
        for number in range(12):
            box.put(number, size=30_000)  # four a segment
            offered += numbers(box.sink)
            box.outbox.tick()
            box.writer.flush()
        offered += numbers(box.sink)
        assert offered == list(range(12))
        if disk.calls < first:
            assert first > 20
            break
        assert box.told.count("outbox_failed") >= 1
        disk.heal()
        box.outbox.tick()
        box.put(12)
        box.outbox.tick()
        box.writer.flush()
        assert box.outbox.problem == "" and box.told[-1] == "outbox_back"
        assert box.outbox.dropped == 0 and numbers(box.sink) == [12]
        box.close()
        assert kept(folder) == list(range(13))


def test_a_folder_that_cannot_be_made_is_no_reason_to_be_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, impatient: None
) -> None:
    monkeypatch.setattr(outbox_module, "MEMORY_BYTES", 4000 * len(encode(event(9999))))
    (tmp_path / "file").write_text("")
    box = Box(tmp_path / "file" / "outbox")
    for start in range(0, 10_000, 500):
        box.put(*range(start, start + 500))
        if start == 500:
            assert numbers(box.sink) == list(range(1000))
            box.sink.ack(1000)
    assert box.told == ["outbox_failed"]
    left = numbers(box.sink)
    assert left[-1] == 9999 and 4000 <= len(left) < 4100 and box.outbox.dropped == 9000 - len(left)
    (tmp_path / "file").unlink()
    box.outbox.tick()
    eventually(lambda: box.told[-1] == "outbox_back", "that events come to disk")
    box.close()
    assert kept(tmp_path / "file" / "outbox") == left


def test_a_disk_that_hangs_delays_no_event_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_module, "PATIENCE_S", 60.0)
    box = Box(tmp_path / "outbox")
    hang = [True]
    box.writer.submit(lambda: eventually(lambda: not hang[0], "the end of the hang"))
    began = time.monotonic()
    box.outbox.append({"event": "test", "number": 0, "fill": ""})
    assert time.monotonic() - began < 10
    assert numbers(box.sink) == []  # not on disk yet
    monkeypatch.setattr(outbox_module, "PATIENCE_S", 0.2)
    eventually(lambda: numbers(box.sink) == [0], "an offer from memory")
    hang[0] = False
    box.close()
    assert kept(tmp_path / "outbox") == [0]


def test_two_runs_do_not_share_an_outbox(tmp_path: Path) -> None:
    box = Box(tmp_path / "outbox")
    with pytest.raises(UsageError, match="in use by another edgekd-gateway"):
        Box(tmp_path / "outbox")
    box.close()
    Box(tmp_path / "outbox").close()


def test_a_source_that_can_wait_waits_for_the_disk(tmp_path: Path) -> None:
    box = Box(tmp_path / "outbox", 64 * MIN_BYTES, patient=True)
    for number in range(20_000):
        box.outbox.append({"event": "test", "number": number, "fill": ""})
    box.writer.flush()
    assert box.outbox.dropped == 0 and numbers(box.sink) == list(range(20_000))
    box.close()


def test_scores_come_to_disk_together_and_an_alarm_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = SickDisk(10**9, 0)
    monkeypatch.setattr(outbox_module, "os", disk)
    monkeypatch.setattr(outbox_module, "LINGER_S", 2.0)
    box = Box(tmp_path / "outbox")
    for number in range(50):
        box.outbox.append({"event": "score", "number": number, "fill": ""})
        time.sleep(0.002)

    def come(wanted: list[int], what: str) -> None:  # together, or as two batches
        found: list[int] = []
        eventually(lambda: bool(found.extend(numbers(box.sink))) or len(found) >= len(wanted), what)  # type: ignore[func-returns-value]
        assert found == wanted

    come(list(range(50)), "the scores, without more to push them")
    assert disk.calls < 10  # open, write, sync: once or twice, not fifty times
    monkeypatch.setattr(outbox_module, "LINGER_S", 60.0)
    box.outbox.append({"event": "score", "number": 50, "fill": ""})
    assert numbers(box.sink) == []
    box.outbox.append({"event": "anomaly", "number": 51, "fill": ""})
    come([50, 51], "the alarm, and what came before it")
    box.outbox.append({"event": "score", "number": 52, "fill": ""})
    state: list[list[int]] = []
    box.writer.submit(lambda: state.append(numbers(box.sink)))  # a state that has seen a score is not saved before it
    eventually(lambda: state == [[52]], "the state")
    box.close()


def remove(folder: Path) -> None:
    shutil.rmtree(folder)


def move_away(folder: Path) -> None:
    folder.rename(folder.with_name("away"))


def empty(folder: Path) -> None:
    for path in folder.glob("*.events"):
        path.write_bytes(b"")


def remove_a_file(folder: Path) -> None:
    sorted(folder.glob("*.events"))[0].unlink()


def put_another_in_its_place(folder: Path) -> None:
    shutil.rmtree(folder)
    other = Box(folder)
    other.put(100, 101)
    other.close()


@pytest.mark.parametrize("harm", [remove, move_away, empty, remove_a_file, put_another_in_its_place])
@pytest.mark.parametrize("restarted", [False, True])
def test_a_folder_that_is_gone_is_made_anew(tmp_path: Path, harm: Callable[[Path], None], restarted: bool) -> None:
    folder = tmp_path / "outbox"
    box = Box(folder)
    box.put(*range(12), size=30_000)  # four a segment
    if restarted:
        box.close()
        box = Box(folder)
    assert [record.seq for record in box.sink.read(3)] == [1, 2, 3]
    box.sink.ack(2)
    harm(folder)
    box.check()
    assert box.told == ["outbox_made_anew"]
    assert numbers(box.sink)[: 9 + 2] == [*range(3, 12), *([100, 101] if harm is put_another_in_its_place else [])]
    box.put(12)
    box.check()
    assert box.told == ["outbox_made_anew"] and numbers(box.sink) == [12] and box.outbox.dropped == 0
    box.close()
    assert kept(folder)[: 11 + 2] == [*range(2, 12), *([100, 101] if harm is put_another_in_its_place else []), 12]


def file(place: Path) -> None:
    place.write_text("precious")


def link_to_nothing(place: Path) -> None:
    place.symlink_to("nothing")


def link_to_itself(place: Path) -> None:
    place.symlink_to(place)


@pytest.mark.parametrize("put", [file, link_to_nothing, link_to_itself, os.mkfifo])
@pytest.mark.parametrize("above", [False, True])
def test_what_stands_in_the_way_of_the_folder_is_put_aside(
    tmp_path: Path, put: Callable[[Path], None], above: bool
) -> None:
    folder = tmp_path / "above" / "outbox"
    box = Box(folder)
    box.put(0)
    for number in (1, 2):
        place = folder.parent if above else folder
        shutil.rmtree(place)
        put(place)
        box.check()
        assert box.told == ["outbox_made_anew"] * number
        box.put(number)
        assert kept(shutil.copytree(folder, tmp_path / f"killed-{number}")) == list(range(number + 1))
    aside = [path for path in place.parent.iterdir() if path.suffix == ".found"]
    assert len(aside) == 2 and (put is not file or {path.read_text() for path in aside} == {"precious"})
    box.close()


def test_a_link_to_an_outbox_that_is_in_use_is_put_aside_and_a_folder_is_not(tmp_path: Path, impatient: None) -> None:
    folder, other = tmp_path / "outbox", tmp_path / "other"
    theirs, box = Box(other), Box(folder)
    theirs.put(10)
    box.put(0)
    move_away(folder)
    folder.symlink_to(other)
    box.put(1)
    assert box.told == ["outbox_made_anew"] and not folder.is_symlink()
    move_away(folder.parent / "away")
    intruder = Box(tmp_path / "third")
    (tmp_path / "outbox").rename(tmp_path / "away-2")
    (tmp_path / "third").rename(folder)
    box.put(2)
    assert box.told[1:] == ["outbox_failed"] and numbers(box.sink) == [0, 1, 2]
    intruder.close()
    box.check()
    assert box.told[2:] == ["outbox_made_anew", "outbox_back"]
    box.close()
    assert kept(folder) == [0, 1, 2]
    assert numbers(theirs.sink) == [10] and theirs.told == []
    theirs.close()


@pytest.fixture
def foreign_folder() -> Iterator[Path]:
    """A folder of an ordinary user, who this is for as long."""
    folder = Path(tempfile.mkdtemp(prefix="edgekd-"))
    root = os.geteuid() == 0
    if root:
        os.chown(folder, 65534, 65534)
        os.seteuid(65534)
    yield folder
    if root:
        os.seteuid(0)
    for path in folder.iterdir():
        path.chmod(0o700)
    shutil.rmtree(folder)


@pytest.mark.parametrize("mode", [0o000, 0o500])
def test_a_folder_that_takes_nothing_of_ours_any_more_is_put_aside(foreign_folder: Path, mode: int) -> None:
    folder = foreign_folder / "outbox"
    box = Box(folder)
    box.put(*range(6), size=30_000)  # four a segment
    folder.chmod(mode)
    for number in range(6, 12):
        box.put(number, size=30_000)
        box.check()
    assert "outbox_made_anew" in box.told and box.outbox.problem == ""
    assert kept(shutil.copytree(folder, foreign_folder / "killed")) == list(range(12))
    box.close()


def test_where_nothing_can_be_put_aside_events_go_out_from_memory(foreign_folder: Path, impatient: None) -> None:
    folder = foreign_folder / "outbox"
    box = Box(folder)
    box.put(0, 1)
    move_away(folder)
    folder.write_text("precious")
    foreign_folder.chmod(0o500)
    box.put(2)
    assert box.told == ["outbox_failed"] and numbers(box.sink) == [0, 1, 2]
    foreign_folder.chmod(0o700)
    box.put(3)
    box.check()
    assert box.told[1:] == ["outbox_made_anew", "outbox_back"]
    box.close()
    assert kept(folder) == [0, 1, 2, 3]


def test_what_stands_there_at_the_start_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "outbox"
    folder.write_text("precious")
    box = Box(folder)
    box.put(0)
    box.check()
    assert box.told == ["outbox_failed"] and "no folder" in box.outbox.problem and numbers(box.sink) == [0]
    assert folder.read_text() == "precious"
    box.close()


def test_what_a_card_forgets_is_written_again(tmp_path: Path) -> None:
    folder = tmp_path / "outbox"
    box = Box(folder)
    box.put(*range(10), size=30_000)  # four a segment
    box.sink.ack(5)
    box.writer.flush()
    for path in sorted(folder.glob("*.events")):
        data = bytearray(path.read_bytes())
        for at in range(999, len(data), 29_000):
            data[at] ^= 1
        path.write_bytes(data)
    box.repair()
    assert box.told == ["outbox_repaired"]
    box.repair()
    box.put(10)
    box.close()
    assert box.told == ["outbox_repaired"] and kept(folder)[-6:] == list(range(5, 11))


def test_what_was_damaged_before_the_start_is_no_reason_to_write(tmp_path: Path) -> None:
    box = Box(tmp_path)
    box.put(*range(5))
    box.close()
    (segment,) = tmp_path.glob("*.events")
    data = segment.read_bytes()
    for at in range(20, len(data) - 80, 50):
        segment.write_bytes(damaged := data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        box = Box(tmp_path)
        box.repair()
        assert segment.read_bytes() == damaged and box.told == ["outbox_damaged"]
        box.close()


def test_what_is_lost_with_a_folder_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_module, "MEMORY_BYTES", 5 * 31_000)
    box = Box(tmp_path / "outbox")
    for number in range(12):
        box.put(number, size=30_000)
    remove(tmp_path / "outbox")
    found = numbers(box.sink)
    box.check()
    assert found + numbers(box.sink) == [7, 8, 9, 10, 11]
    assert box.outbox.dropped == 7 and box.told == ["outbox_made_anew"]
    box.close()


def test_a_folder_that_comes_back_is_not_delivered_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, impatient: None
) -> None:
    folder = tmp_path / "outbox"
    box = Box(folder)
    box.put(0, 1)
    with monkeypatch.context() as disk:
        disk.setattr(Path, "mkdir", Full)
        move_away(folder)
        box.put(2)
        assert numbers(box.sink) == [0, 1, 2] and box.told == ["outbox_failed"]
    (tmp_path / "away").rename(folder)
    box.put(3)
    box.check()
    assert numbers(box.sink) == [3] and box.told[-1] == "outbox_back"
    box.close()
    assert sorted(kept(folder)) == [0, 1, 2, 3]


def test_events_of_another_version_are_kept(tmp_path: Path) -> None:
    ours, theirs = line_of(Record(7, "-", encode(event(0)))), b'v2 {"seq": 8} {"event": "anomaly"}\n'
    for lines in ([theirs, theirs], [ours, theirs], [theirs, ours, theirs]):
        folder = tmp_path / str(len(lines))
        folder.mkdir(exist_ok=True)
        name = f"{len(lines):016d}.events"
        (folder / name).write_bytes(b"".join(lines))
        box = Box(folder)
        assert box.outbox.corrupt == lines.count(theirs) and box.told == ["outbox_damaged"]
        assert numbers(box.sink) == [0] * lines.count(ours)
        box.put(1)
        box.sink.ack(8)
        box.close()
        assert (folder / f"{name}.corrupt").read_bytes() == theirs * lines.count(theirs)
        shutil.rmtree(folder)


@pytest.mark.parametrize("data", [b"v3 without an end", bytes(range(11, 256)) * 9, b"v2 two\nv2 three\n"])
def test_what_no_version_of_ours_has_written_is_kept_however_often_it_comes(tmp_path: Path, data: bytes) -> None:
    segment = tmp_path / "0000000000000001.events"
    for found in (b"v2 one\n", data):
        segment.write_bytes(found)
        Box(tmp_path).close()
    box = Box(tmp_path)
    box.put(0)
    box.close()
    ours = segment.read_bytes()
    segment.write_bytes(b"x" + ours[1:-1] + b"\v")  # under a name that was there before
    Box(tmp_path).close()
    kept = (tmp_path / f"{segment.name}.corrupt").read_bytes()
    assert kept.startswith(b"v2 one\n") and data in kept and ours[1:-1] in kept


def test_events_of_another_version_in_the_place_of_ours_are_kept(tmp_path: Path) -> None:
    folder = tmp_path / "outbox"
    box = Box(folder)
    box.put(0, 1)
    folder.rename(tmp_path / "away")
    folder.mkdir()
    (folder / "0000000000000001.events").write_bytes(b"v2 one\n")
    box.check()
    box.close()
    assert (folder / "0000000000000001.events.corrupt").read_bytes() == b"v2 one\n" and "outbox_damaged" in box.told
    assert kept(folder) == [0, 1]


def test_another_outbox_in_the_place_of_ours_does_not_say_what_was_delivered(tmp_path: Path) -> None:
    folder, other = tmp_path / "outbox", tmp_path / "other"
    further = Box(other)
    further.put(*range(10, 30))
    further.sink.ack(20)
    further.close()
    box = Box(folder)
    box.put(0, 1, 2)
    folder.rename(tmp_path / "away")
    other.rename(folder)
    box.check()
    box.close()
    again = Box(folder)
    assert {0, 1, 2} <= set(numbers(again.sink))
    again.close()


def test_a_disk_that_fails_at_the_start_hides_no_event(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    box = Box(tmp_path)
    box.put(0, 1, 2)
    box.sink.ack(3)
    box.close()

    def failing(folder: Path) -> Any:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as disk:
        disk.setattr(outbox_module, "scan", failing)
        box = Box(tmp_path)
        box.put(3, 4)
        assert numbers(box.sink) == [3, 4]  # from memory, though three were acknowledged before
    box.check()
    box.close()
    again = Box(tmp_path)
    assert {3, 4} <= set(numbers(again.sink))
    again.close()


def test_a_disk_that_is_full_holds_up_no_good_event_beside_a_damaged_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = Box(tmp_path)
    box.put(0, 1)
    box.close()
    (segment,) = tmp_path.glob("*.events")
    segment.write_bytes(b"x" + segment.read_bytes()[1:])
    monkeypatch.setattr(segments, "atomic", Full)
    box = Box(tmp_path)
    assert numbers(box.sink) == [1] and box.told == ["outbox_damaged"]
    box.close()


def test_links_and_pipes_in_the_folder_lead_nowhere(tmp_path: Path) -> None:
    folder, victim = tmp_path / "outbox", tmp_path / "victim"
    folder.mkdir()
    victim.write_text("precious")
    os.mkfifo(folder / "0000000000000001.events")
    (folder / "0000000000000002.events").symlink_to(victim)
    (folder / "sink.acked").symlink_to(victim)
    box = Box(folder)
    box.put(0, 1)
    assert numbers(box.sink) == [0, 1] and box.told == ["outbox_damaged"]
    box.sink.ack(1)
    box.close()
    assert victim.read_text() == "precious"
    assert kept(folder)[-2:] == [0, 1]


def test_a_file_system_that_cannot_sync_keeps_events_and_state(
    folder: Path, tmp_path: Path, no_sync: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("--model", folder / "m.onnx", "--stdin", "--state", tmp_path / "state", "--state-every", 0.1)
    with monkeypatch.context() as preloaded:
        preloaded.setenv("LD_PRELOAD", str(no_sync))
        with Gateway(*arguments, "--exec", "false", stdin=subprocess.PIPE) as gateway:
            assert gateway.process.stdin
            gateway.process.stdin.write((folder / "x.csv").read_text())  # type: ignore[arg-type]
            gateway.process.stdin.flush()
            gateway.wait_for("anomaly_end")
            time.sleep(0.5)
            gateway.end(signal.SIGKILL)
    told = [event for event in gateway.events if event["event"].startswith("anomaly")]
    assert not {"outbox_failed", "state_not_saved"} & {event["event"] for event in gateway.events}, gateway.words
    box = Box(tmp_path / "state.outbox")
    texts = [json.loads(record.text) for record in box.cursor("fresh").read(1000)]
    box.close()
    assert [(e["event"], e["sample"]) for e in texts if "sample" in e] == [(e["event"], e["sample"]) for e in told]
    resumed = run(*arguments, "--exec", "true", input="")
    assert f"at sample {160}" in resumed.stderr
