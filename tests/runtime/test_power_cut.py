"""A power cut, a full disk or a disk that takes no more, at any moment of a save: an older or a newer state, whole.

Full and read-only disks are small tmpfs mounts where mounting is allowed; where it is not, those tests are skipped and
the same refusals come from `os.pwrite` and `os.fdatasync`.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from device import PATIENCE_S, Device, events_of, run, write_csv
from step_models import step_file, step_samples

from edgekd.runtime import Detector
from edgekd.runtime.episodes import Episodes
from edgekd.runtime.gateway.disk_writer import DiskWriter
from edgekd.runtime.loop import Loop
from edgekd.runtime.state import BLOCK, SavedState, StateFile, StateUnusable
from edgekd.runtime.watchers import state_keeper
from edgekd.runtime.watchers.state_keeper import StateKeeper

DIGEST, OTHER = "ab" * 32, "cd" * 32


def state(number: int) -> SavedState:
    """A state that is told from others by its number, everywhere in its bytes."""
    fill = np.random.default_rng(number).integers(0, 2**31, 200, np.int64)
    return SavedState({"x": fill, "number": np.array(number)}, {"number": number})


def number_of(path: Path) -> int:
    """Which state a fresh start finds; all of it must be there."""
    found = StateFile(path, DIGEST).load()
    assert found is not None
    number = int(found.arrays["number"])
    assert found.meta == state(number).meta and np.array_equal(found.arrays["x"], state(number).arrays["x"])
    return number


@pytest.fixture
def saves(tmp_path: Path) -> tuple[Path, list[bytes]]:
    """The file, and its bytes after each of five saves."""
    path, after = tmp_path / "state", []
    file = StateFile(path, DIGEST)
    for number in range(5):
        file.save(state(number))
        after.append(path.read_bytes())
    return path, after


def test_power_cut_at_every_byte(saves: tuple[Path, list[bytes]]) -> None:
    path, after = saves
    for number in (1, 2):  # once in each slot
        before, now = after[number : number + 2]
        assert len(before) == len(now)
        (begin, end) = (0, len(now) // 2) if number % 2 else (len(now) // 2, len(now))
        assert before[:begin] + before[end:] == now[:begin] + now[end:]  # the other slot is not touched
        path.write_bytes(before)
        torn = path.open("r+b", buffering=0)
        found = [number_of(path)]
        for at in range(begin, end):  # one byte more each time
            if before[at] != now[at]:  # else the cut is the one before
                os.pwrite(torn.fileno(), now[at : at + 1], at)
                found.append(number_of(path))
        assert len(found) > 800
        torn.close()
        assert found == sorted(found) and set(found) == {number, number + 1}


def test_blocks_of_a_save_reach_the_disk_in_any_order(saves: tuple[Path, list[bytes]]) -> None:
    path, after = saves
    before, now = after[2], after[3]
    blocks = [at for at in range(0, len(now), 512) if before[at : at + 512] != now[at : at + 512]]
    assert len(blocks) > 4
    order = np.random.default_rng(0)
    for _ in range(300):
        torn = bytearray(before)
        for at in order.permutation(blocks)[: order.integers(0, len(blocks))]:
            torn[at : at + 512] = now[at : at + 512] if order.random() < 0.8 else order.bytes(512)  # or the flash's own
        path.write_bytes(torn)
        assert number_of(path) == 2


def test_power_cut_while_the_file_is_made(saves: tuple[Path, list[bytes]]) -> None:
    path, after = saves
    partial = path.with_name(f".{path.name}.partial")
    for size in range(0, len(after[0]), 499):  # the rename was lost: there is a piece beside, and no file
        path.unlink(missing_ok=True)
        partial.write_bytes(after[0][:size])
        file = StateFile(path, DIGEST)
        assert file.load() is None
        file.save(state(7))
        assert number_of(path) == 7 and not partial.exists()
    for size in (0, 1, 63, 64, len(after[0]) // 2 - 1):  # the rename was kept and the data were not
        path.write_bytes(after[0][:size])
        with pytest.raises(StateUnusable):
            StateFile(path, DIGEST).load()


def test_slots_swapped_and_generations_decide(saves: tuple[Path, list[bytes]]) -> None:
    path, after = saves
    half = len(after[4]) // 2
    path.write_bytes(after[4][half:] + after[4][:half])
    assert number_of(path) == 4
    file = StateFile(path, DIGEST)
    file.load()
    file.save(state(5))  # must not go over the newest
    assert number_of(path) == 5
    data = path.read_bytes()
    path.write_bytes(data[:half] + bytes(half))
    first = number_of(path)
    path.write_bytes(bytes(half) + data[half:])
    assert {first, number_of(path)} == {4, 5}


def test_another_model_and_another_format_are_told_apart_from_damage(saves: tuple[Path, list[bytes]]) -> None:
    path, _ = saves
    with pytest.raises(StateUnusable, match="another model's") as other:
        StateFile(path, OTHER).load()
    assert other.value.kept_as == DIGEST[:12]
    path.write_bytes(b"EDGEKDST\1\0\0\0" + os.urandom(5000))  # one file that was renamed over the old one
    with pytest.raises(StateUnusable, match="format 1") as older:
        StateFile(path, DIGEST).load()
    assert older.value.kept_as == "format1"


@pytest.mark.parametrize("call", ["pwrite", "fdatasync"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_a_save_that_fails_keeps_the_newest_and_is_mended_by_the_next(
    saves: tuple[Path, list[bytes]], monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    path, _ = saves
    file = StateFile(path, DIGEST)
    assert file.load() is not None
    real = os.pwrite
    for taken in (0, 1, 100, BLOCK, BLOCK + 1):
        room = taken

        def pwrite(fd: int, data: memoryview, offset: int) -> int:
            nonlocal room
            if call == "pwrite" and room <= 0:
                raise OSError(code, os.strerror(code))
            written = real(fd, data[: max(room, 1)], offset) if call == "pwrite" else real(fd, data, offset)
            room -= written
            return written

        def fdatasync(fd: int) -> None:
            raise OSError(code, os.strerror(code))

        with monkeypatch.context() as patched:
            patched.setattr(os, "pwrite", pwrite)
            if call == "fdatasync":
                patched.setattr(os, "fdatasync", fdatasync)
            for _ in range(3):  # three attempts must not eat up both slots
                with pytest.raises(OSError, match=os.strerror(code)):
                    file.save(state(5))
        assert number_of(path) in (4, 5)
    file.save(state(6))
    assert number_of(path) == 6


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 16 blocks."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={16 * BLOCK}", "tmpfs", folder], capture_output=True)
    if made.returncode:
        pytest.skip("mounting is not allowed here")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def fill(disk: Path, left: int) -> None:
    """Leave so many blocks free."""
    (disk / "filler").write_bytes(b"")
    free = os.statvfs(disk).f_bfree
    (disk / "filler").write_bytes(b"x" * max(0, free - left) * BLOCK)


def test_disk_full_at_each_write(disk: Path) -> None:
    needed = 4  # blocks: two slots of two
    path = disk / "state"
    for left in range(needed + 2):
        path.unlink(missing_ok=True)
        fill(disk, left)
        file = StateFile(path, DIGEST)
        if left < needed:
            with pytest.raises(OSError, match="No space left"):
                file.save(state(1))
            assert [p.name for p in disk.iterdir()] == ["filler"]  # not even a part
            fill(disk, needed)
        file.save(state(2))
        fill(disk, 0)
        for number in range(3, 6):  # what was made once needs no space any more
            file.save(state(number))
            assert number_of(path) == number


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return step_file(tmp_path_factory.mktemp("cut") / "m.onnx", 3, 4, threshold=0.15)


def test_a_disk_that_fills_up_and_gets_room_again(model: Path, tmp_path: Path, disk: Path) -> None:
    write_csv(tmp_path / "x.csv", step_samples(3, 400))
    whole = events_of(run("--model", model, "--csv", tmp_path / "x.csv", "--scores").stdout, "score")
    lines = (tmp_path / "x.csv").read_bytes().splitlines(keepends=True)
    path = disk / "state"
    fill(disk, 0)
    arguments = ("--model", model, "--stdin", "--scores", "--state", path, "--state-every", 0.05)
    with Device(*arguments, stdin=subprocess.PIPE) as device:
        assert device.process.stdin
        stdin = device.process.stdin.fileno()
        os.write(stdin, b"".join(lines[:101]))
        assert device.wait_for("state_not_saved")["reason"] == "No space left on device"
        device.wait_for(lambda event: event["event"] == "score" and event["sample"] == 99)
        assert not path.exists()
        (disk / "filler").unlink()
        assert device.wait_for("state_saved_again")["failures"] > 0
        fill(disk, 0)
        before = path.read_bytes()
        os.write(stdin, b"".join(lines[101:201]))
        wait_until(lambda: path.read_bytes() != before)
        path.rename(disk / "elsewhere")  # somebody moves it out of the way, and there is no room for another
        os.write(stdin, b"".join(lines[201:301]))
        device.wait_for("state_not_saved")
        (disk / "filler").unlink()
        device.wait_for("state_saved_again")
        os.write(stdin, b"".join(lines[301:]))
        device.wait_for(lambda event: event["event"] == "score" and event["sample"] == 399)
        assert device.end(signal.SIGTERM) == 0
    assert device.scores() == whole
    kinds = [event["event"] for event in device.events]
    assert kinds.count("state_not_saved") == kinds.count("state_saved_again") == 2  # each once, not at every attempt
    assert saved_sample(path, model) == 400


def test_a_read_only_disk_that_is_mended(model: Path, tmp_path: Path, disk: Path) -> None:
    write_csv(tmp_path / "x.csv", step_samples(3, 200))
    lines = (tmp_path / "x.csv").read_bytes().splitlines(keepends=True)
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    arguments = ("--model", model, "--stdin", "--scores", "--state", disk / "state", "--state-every", 0.05)
    with Device(*arguments, stdin=subprocess.PIPE) as device:
        assert device.process.stdin
        os.write(device.process.stdin.fileno(), b"".join(lines[:101]))
        assert device.wait_for("state_not_saved")["reason"] == "Read-only file system"
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
        device.wait_for("state_saved_again")
        os.write(device.process.stdin.fileno(), b"".join(lines[101:]))
        device.wait_for(lambda event: event["event"] == "score" and event["sample"] == 199)
        assert device.end(signal.SIGTERM) == 0
    assert len(device.scores()) == 50 and saved_sample(disk / "state", model) == 200


def saved_sample(path: Path, model: Path) -> int:
    saved = StateFile(path, Detector.load(model).manifest.digests.file).load()
    assert saved is not None
    return int(saved.arrays["seen"])


def wait_until(true: Any) -> None:
    end = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


NEVER = {"every_s": 60.0, "parts": {}}


class Run:
    """A keeper with what it keeps, as `edgekd-run` puts them together."""

    def __init__(self, model: Path, path: Path, live: bool = True, **options: Any) -> None:
        self.events: list[dict[str, Any]] = []
        self.detector = Detector.load(model)
        self.writer = DiskWriter()
        source: Any = SimpleNamespace(
            live=live, seek=lambda sample: None, position=lambda: None, seek_position=lambda position: False
        )
        source.position, source.seek_position = lambda: None, lambda position: False
        emit = lambda event: self.events.append(dict(event))  # noqa: E731
        loop = Loop(source, self.detector, Episodes(), emit, lambda words: None)
        self.keeper = StateKeeper(str(path), loop, self.writer, **{**NEVER, **options})
        self.keeper.begin()

    def score(self, samples: int) -> None:
        for row in step_samples(3, samples):
            self.detector.update(row)
            self.keeper.tick()

    def kinds(self) -> list[str]:
        return [event["event"] for event in self.events]


def test_a_disk_that_hangs_holds_up_nothing(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = Run(model, tmp_path / "state", every_s=0.0)
    goes_on, real = threading.Event(), os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda fd: (goes_on.wait(PATIENCE_S), real(fd))[1])
    monkeypatch.setattr(state_keeper, "STUCK_S", 0.05)
    monkeypatch.setattr(state_keeper, "END_WAIT_S", PATIENCE_S)
    one.score(400)
    assert len(one.writer._jobs) == 1  # one copy is on its way, and no other waits behind it
    time.sleep(0.1)
    one.score(400)
    assert one.kinds() == ["state_not_saved"] and one.events[0]["reason"] == "the disk does not answer"
    assert one.keeper.age_s > 0.1
    goes_on.set()
    one.keeper.end()
    assert one.kinds() == ["state_not_saved", "state_saved_again"] and one.keeper.age_s < PATIENCE_S
    assert saved_sample(tmp_path / "state", model) == 800


def test_saves_come_at_the_start_and_when_it_is_time(model: Path, tmp_path: Path) -> None:
    for every_s in (1e6, 0.0):
        one = Run(model, tmp_path / f"state-{every_s:g}", every_s=every_s)
        first = one.keeper._file.path.read_bytes()
        one.score(100)
        one.writer.flush()
        assert (one.keeper._file.path.read_bytes() == first) == (every_s > 0)


def test_a_stream_s_name_tells_its_events_from_all_others(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "state"
    cold = Run(model, path).keeper.stream_id
    assert len(cold) == 8 and int(cold, 16) >= 0
    names = [Run(model, path, live).keeper.stream_id for live in (False, True, False, True, True)]
    assert names == [cold, f"{cold}.1", f"{cold}.1", f"{cold}.2", f"{cold}.3"]  # known to disk without a sample
    assert Run(model, tmp_path / "other").keeper.stream_id != cold
    path.unlink()
    assert Run(model, path).keeper.stream_id != cold


def test_a_name_that_cannot_be_saved_is_not_taken_twice(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cold = Run(model, tmp_path / "state").keeper.stream_id

    def fail(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", fail)
        runs = [Run(model, tmp_path / "state") for _ in range(3)]
    names = {one.keeper.stream_id for one in runs}
    assert len(names) == 3 and not any(name.startswith(cold) for name in names)
    assert all(one.kinds()[0] == "state_not_saved" and one.keeper.failures == 1 for one in runs)
