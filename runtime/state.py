"""The state file: what the detector knows, so that a restart goes on instead of beginning again; and its lock.

Two slots of one size in one file, written in turn, in place: a power cut leaves one of them whole, a full disk stops no
save, and `fdatasync` writes no journal. docs/file-format.md has every byte.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from edgekd.runtime.errors import UsageError
from edgekd.runtime.files import atomic, sync
from edgekd.runtime.json_fields import shown

MAGIC = b"EDGEKDST"
VERSION = 2
MAX_BYTES = 512 * 2**20  # two slots of the largest state that a manifest may ask for, four times over
META_BYTES = 4096  # JSON of fixed length: what is decided, not what is computed, is a few hundred bytes
BLOCK = 4096  # of file systems and of the flash behind them: a torn one must not reach into the other slot
_HEADER = struct.Struct("<8sII32sQQ")
_CRC_FROM = 16  # bytes of the header that the checksum leaves out


class StateUnusable(Exception):
    """A state file that cannot be resumed from; `kept_as` is the suffix under which to keep it."""

    def __init__(self, reason: str, kept_as: str) -> None:
        super().__init__(reason)
        self.kept_as = kept_as


class SavedState(NamedTuple):
    """What a state file holds. Of one size for one model, so that a slot once made fits for ever."""

    arrays: dict[str, np.ndarray]  # `Detector.snapshot`
    meta: dict[str, Any]
    """JSON-able, up to META_BYTES: open episode, threshold, boot id and clock at the time of saving."""


class _Slot(NamedTuple):
    """What is in a slot, or why nothing is."""

    payload: memoryview | StateUnusable
    generation: int = -1
    digest: bytes = b""


class StateFile:
    """The two slots of one file. Not for two threads at once: load in one, then save in another."""

    def __init__(self, path: Path, model_digest: str) -> None:
        self.path = path
        self._digest = bytes.fromhex(model_digest)
        self._generation = 0
        self._next: int | None = None
        """Slot to write, the one that does not hold the newest state; None: the file has to be made."""

    def load(self) -> SavedState | None:
        """The newest whole state, None where there is no file yet. Raises StateUnusable, and OSError."""
        try:
            with self.path.open("rb") as file:
                data = file.read(MAX_BYTES + 1)
        except FileNotFoundError:
            return None
        if len(data) > MAX_BYTES:
            raise StateUnusable(f"it has more than {MAX_BYTES >> 20} MiB", "corrupt")
        view, half = memoryview(data), len(data) // 2
        slots = [_checked(view[:half]), _checked(view[half:])]
        newest = max(slots, key=lambda slot: slot.generation)
        if isinstance(newest.payload, StateUnusable):
            raise newest.payload
        if newest.digest != self._digest:
            raise StateUnusable("it is another model's", newest.digest.hex()[:12])
        saved = _unpacked(newest.payload)
        self._generation, self._next = newest.generation, 1 - slots.index(newest)
        return saved

    def save(self, state: SavedState) -> None:
        """Write the state so that a power cut leaves one; raises OSError where the disk does not take it."""
        data = self._packed(state)
        if self._next is None or not self._overwrite(data, self._next):
            with atomic(self.path, 0o600) as file:
                file.writelines([data, bytes(len(data))])  # zeros are no state
            self._next = 0
        self._next = 1 - self._next
        self._generation += 1

    def _packed(self, state: SavedState) -> bytes:
        """A slot's bytes, whole blocks."""
        meta = json.dumps(state.meta).encode().ljust(META_BYTES)
        payload = io.BytesIO()
        np.savez(payload, allow_pickle=False, __meta__=np.frombuffer(meta, np.uint8), **state.arrays)
        body = payload.getvalue()
        rest = self._digest + struct.pack("<QQ", self._generation + 1, len(body)) + body
        data = MAGIC + struct.pack("<II", VERSION, zlib.crc32(rest)) + rest
        return data.ljust(-(-len(data) // BLOCK) * BLOCK, b"\0")

    def _overwrite(self, data: bytes, slot: int) -> bool:
        """Put `data` into a slot of the file that is there; False where there is none that it fits into."""
        try:
            with self.path.open("r+b", buffering=0) as file:
                fd, rest, offset = file.fileno(), memoryview(data), slot * len(data)
                if os.fstat(fd).st_size != 2 * len(data):
                    return False
                while rest:  # a disk that takes only a part raises OSError at the next write
                    written = os.pwrite(fd, rest, offset)
                    rest, offset = rest[written:], offset + written
                sync(fd, os.fdatasync)
        except FileNotFoundError:  # somebody took it away
            return False
        return True


def _checked(data: memoryview) -> _Slot:
    """The slot in these bytes, whole only where its checksum is right."""
    if len(data) < _HEADER.size:
        return _Slot(StateUnusable(f"a slot of it has {len(data)} bytes", "corrupt"))
    magic, version, crc, digest, generation, length = _HEADER.unpack_from(data)
    if magic != MAGIC or version > 2**16:  # no version will ever be as high: it is noise
        return _Slot(StateUnusable("it is no state file", "corrupt"))
    if version != VERSION:
        return _Slot(StateUnusable(f"it has format {version}, this EdgeKD reads {VERSION}", f"format{version}"))
    end = _HEADER.size + length
    if end > len(data) or zlib.crc32(data[_CRC_FROM:end]) != crc:
        return _Slot(StateUnusable("its checksum is wrong", "corrupt"))
    return _Slot(data[_HEADER.size : end], generation, digest)


def _unpacked(payload: memoryview) -> SavedState:
    """The state; raises StateUnusable where the payload is none in spite of its checksum."""
    try:
        with np.load(io.BytesIO(payload), allow_pickle=False) as archive:
            if sum(part.file_size for part in archive.zip.infolist()) > len(payload):
                raise ValueError("it would unpack to more than it is")
            arrays = {name: archive[name] for name in archive.files}
        meta = json.loads(arrays.pop("__meta__").tobytes())
    except Exception as error:  # of NumPy, zipfile and json, of many kinds
        raise StateUnusable(f"its contents cannot be read ({shown(str(error))})", "corrupt") from None
    return SavedState(arrays, meta)


def require_state(path: str) -> None:
    """Raise UsageError where something is that never was a state; one that is damaged, or all zeros, was."""
    with contextlib.suppress(OSError):  # which is told later, and stops nothing
        half = Path(path).stat().st_size // 2
        with Path(path).open("rb") as file:
            fits = MAGIC.startswith(file.read(8).strip(b"\0")) or os.pread(file.fileno(), 8, half) == MAGIC
        if not fits:
            raise UsageError(f"{shown(path, 300)}: is no state file, and would be written over; give another name")


@contextlib.contextmanager
def lock_state(path: str, say: Callable[[str], None]) -> Iterator[None]:
    """Hold `PATH.lock`, which stays there with our process id in it. Raises UsageError where another process holds it.

    The system drops the lock with the process. A disk that takes no lock file is told and stops nothing.
    """
    lock = f"{os.path.realpath(path)}.lock"
    with contextlib.ExitStack() as held:
        try:
            # never removed: whoever has opened it meanwhile would hold a lock that nobody else sees
            file = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
            held.callback(os.close, file)
            holder = os.pread(file, 20, 0).decode("ascii", "replace").strip()
            if holder and not holder.isdecimal():
                raise UsageError(f"{shown(lock, 300)}: is no lock, and would be written over; give another name")
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with contextlib.suppress(OSError):  # a full disk
                os.ftruncate(file, 0)
                os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
        except BlockingIOError:
            who = f"{shown(path, 300)}: process {holder or 'unknown'} runs on this state"
            raise UsageError(f"{who}; stop it first, or give this run a --state of its own") from None
        except OSError as error:  # no such folder; some network file systems
            say(f"cannot lock {shown(lock, 300)}: {error.strerror}; make sure that no other run uses this state")
        yield


def boot_clock_s() -> float:
    """Seconds since this boot, sleep included, the same for every process."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def boot_id() -> str:
    """What tells one boot of this machine from another; empty where the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
