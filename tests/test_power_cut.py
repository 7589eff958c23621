"""A power cut, a full disk or a disk that takes no more, at any moment of a save: an older or a newer state, whole."""

from __future__ import annotations

import errno
import itertools
import os
from pathlib import Path

import numpy as np
import pytest

from edgekd.runtime.state import BLOCK, SavedState, StateFile, StateUnusable

DIGEST, OTHER = "ab" * 32, "cd" * 32


def state(number: int) -> SavedState:
    """A state that is told from others by its number, everywhere in its bytes."""
    fill = np.random.default_rng(number).integers(0, 2**31, 700, np.int64)
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
    for number, (before, now) in enumerate(itertools.pairwise(after)):
        assert len(before) == len(now)
        (begin, end) = (0, len(now) // 2) if number % 2 else (len(now) // 2, len(now))
        assert before[:begin] + before[end:] == now[:begin] + now[end:]  # the other slot is not touched
        path.write_bytes(before)
        torn = path.open("r+b", buffering=0)
        found = [number_of(path)]
        for at in range(begin, end):  # one byte more each time
            os.pwrite(torn.fileno(), now[at : at + 1], at)
            found.append(number_of(path))
        torn.close()
        assert found == sorted(found) and set(found) == {number, number + 1}


def test_blocks_of_a_save_reach_the_disk_in_any_order(saves: tuple[Path, list[bytes]]) -> None:
    path, after = saves
    before, now = after[2], after[3]
    blocks = [at for at in range(0, len(now), 512) if before[at : at + 512] != now[at : at + 512]]
    assert len(blocks) > 8
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
    for size in range(0, len(after[0]), 97):  # the rename was lost: there is a piece beside, and no file
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
