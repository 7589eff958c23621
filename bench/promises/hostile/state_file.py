"""Changes of a state file: of its bytes, or of what it holds under a checksum that is right again."""

from __future__ import annotations

import json
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from bench.promises.hostile.any_file import BYTE_KINDS, Change
from bench.promises.hostile.checkpoint_file import NUMBERS, WORDS
from edgekd.runtime.state import SavedState, StateFile


def in_the_payload(rng: random.Random, data: bytes, canary: str) -> bytes:
    """The newest slot's archive changed as any bytes can be, in both slots."""
    digest, length, payload = newest(data)
    change = rng.choice(list(BYTE_KINDS.values()))
    return file_of(digest, change(rng, payload[:length], canary))


def state_change(change: Callable[[random.Random, dict[str, np.ndarray], dict[str, Any]], None]) -> Change:
    """A change of arrays and JSON."""

    def apply(rng: random.Random, data: bytes, _: str) -> bytes:
        digest, _length, _payload = newest(data)
        with TemporaryDirectory() as folder:
            path = Path(folder) / "state"
            path.write_bytes(data)
            file = StateFile(path, digest.hex())
            saved = file.load()
            assert saved is not None
            arrays, meta = dict(saved.arrays), json.loads(json.dumps(saved.meta))
            change(rng, arrays, meta)
            path.unlink()
            StateFile(path, digest.hex()).save(SavedState(arrays, meta))
            return path.read_bytes()

    return apply


def other_array(rng: random.Random, arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> None:
    name = rng.choice(sorted(arrays))
    array = arrays[name]
    way = rng.randrange(5)
    if way == 0:
        del arrays[name]
    elif way == 1:
        arrays[name] = array.astype(rng.choice(("float64", ">f4", "int8", "U4", "complex64")))
    elif way == 2:
        arrays[name] = np.zeros(rng.choice((0, 1, 10**6)), array.dtype)
    elif way == 3 and array.dtype.kind == "f":
        arrays[name] = np.full_like(array, rng.choice((np.nan, np.inf, -3e38, 3e38)))
    else:
        arrays[name] = np.full_like(
            array, rng.choice((0, 1, 100) if array.dtype.kind == "f" else (-1, 2**40, 2**63 - 1))
        )


def other_meta(rng: random.Random, arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> None:
    holder, key = meta, rng.choice(sorted(meta))
    while isinstance(holder[key], dict) and holder[key] and rng.random() < 0.8:
        holder = holder[key]
        key = rng.choice(sorted(holder))
    if rng.random() < 0.2:
        del holder[key]
    else:
        short = [word for word in WORDS if len(word) < 1000]
        holder[key] = rng.choice((*NUMBERS, *short, None, True, [], {}, [[[]]], {"start": 1}))


STATE_KINDS: dict[str, Change] = {
    "state payload": in_the_payload,
    "state arrays": state_change(other_array),
    "state values": state_change(other_meta),
}
"""With digests that are right again; `BYTE_KINDS` are without."""


def newest(data: bytes) -> tuple[bytes, int, bytes]:
    """Model digest, length and payload of the slot with the higher generation."""
    slots = (data[: len(data) // 2], data[len(data) // 2 :])
    slot = max(slots, key=lambda slot: struct.unpack_from("<Q", slot, 48)[0])
    (length,) = struct.unpack_from("<Q", slot, 56)
    return slot[16:48], length, slot[64 : 64 + length]


def file_of(digest: bytes, payload: bytes) -> bytes:
    """A state file of this payload, its checksums right."""
    rest = digest + struct.pack("<QQ", 1, len(payload)) + payload
    slot = b"EDGEKDST" + struct.pack("<II", 2, zlib.crc32(rest)) + rest
    slot = slot.ljust(-(-len(slot) // 4096) * 4096, b"\0")
    return slot * 2
