"""The state file: what the detector knows, so that a restart goes on instead of beginning again.

Layout, little-endian: magic (8 bytes), format version u32, CRC-32 u32 of all that follows, SHA-256 of the model file
without its manifest (32 bytes), payload: an npz archive of the detector's arrays and one of JSON (`meta`).
It is written beside the old one and renamed over it, so that a power cut leaves one or the other, whole.
"""

from __future__ import annotations

import io
import json
import struct
import time
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekd.runtime.files import atomic

MAGIC = b"EDGEKDST"
VERSION = 1
MAX_BYTES = 256 * 2**20  # the largest state that a manifest may ask for, four times over
_HEADER = struct.Struct("<8sII32s")


class StateUnusable(Exception):
    """A state file that cannot be resumed from; `kept_as` is the suffix under which to keep it."""

    def __init__(self, reason: str, kept_as: str) -> None:
        super().__init__(reason)
        self.kept_as = kept_as


@dataclass(frozen=True)
class SavedState:
    """What a state file holds."""

    arrays: dict[str, np.ndarray]
    """`Detector.snapshot`."""
    meta: dict[str, Any]
    """JSON-able: open episode, boot id and clock at the time of saving."""


def save_state(path: Path, model_digest: str, state: SavedState) -> None:
    """Write the state so that it survives a power cut at any moment; raises OSError where the disk does not take it."""
    payload = io.BytesIO()
    meta = np.frombuffer(json.dumps(state.meta).encode(), np.uint8)
    np.savez(payload, allow_pickle=False, __meta__=meta, **state.arrays)
    body = bytes.fromhex(model_digest) + payload.getvalue()
    data = _HEADER.pack(MAGIC, VERSION, zlib.crc32(body), body[:32]) + body[32:]
    with atomic(path) as file:
        file.write(data)


def load_state(path: Path, model_digest: str) -> SavedState | None:
    """The saved state, None where there is none yet.

    Raises StateUnusable for a file that is damaged or another model's, OSError where it cannot be read.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    if len(data) < _HEADER.size or len(data) > MAX_BYTES:
        raise StateUnusable(f"it has {len(data)} bytes", "corrupt")
    magic, version, crc, digest = _HEADER.unpack_from(data)
    if magic != MAGIC:
        raise StateUnusable("it is no state file", "corrupt")
    if zlib.crc32(data[_HEADER.size - 32 :]) != crc:  # before the version: magic and checksum stay where they are
        raise StateUnusable("its checksum is wrong", "corrupt")
    if version != VERSION:
        raise StateUnusable(f"it has format {version}, this EdgeKD reads {VERSION}", f"format{version}")
    if digest.hex() != model_digest:
        raise StateUnusable("it is another model's", digest.hex()[:12])
    try:
        with np.load(io.BytesIO(data[_HEADER.size :]), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        meta = json.loads(arrays.pop("__meta__").tobytes())
    except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
        raise StateUnusable(f"its contents cannot be read ({error})", "corrupt") from None
    return SavedState(arrays, meta)


def set_aside(path: Path, suffix: str) -> Path | None:
    """Rename a file that is of no use here but may be elsewhere; None where the disk does not let us."""
    aside = path.with_name(f"{path.name}.{suffix}")
    try:
        path.replace(aside)
    except OSError:
        return None
    return aside


def boot_id() -> str:
    """What tells one boot of this machine from another; empty where the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def boot_clock_s() -> float:
    """Seconds since this boot, sleep included, the same for every process."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
