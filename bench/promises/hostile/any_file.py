"""Changes of bytes, of either format, and of manifests: JSON in, JSON out."""

from __future__ import annotations

import json
import random
import re
import struct
from collections.abc import Callable
from typing import Any

from bench.promises.hostile.manifest import set_digest

HUGE = (2**20, 2**26, 2**31 - 1, 2**40, 2**62)
ODD = (0, -1, 1, 2, 3, 255, 2**15, 2**31 - 1, -(2**31))
Change = Callable[[random.Random, bytes, str], bytes]


def flip_bits(rng: random.Random, data: bytes, _: str) -> bytes:
    out = bytearray(data)
    for _i in range(rng.choice((1, 1, 2, 8))):
        out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return bytes(out)


def flip_structure(rng: random.Random, data: bytes, _: str) -> bytes:
    """Where there are few zeros and no weights: in a flatbuffer near the end or start, in protobuf near names."""
    out = bytearray(data)
    places = [m.start() for m in re.finditer(rb"[\x00-\x40]{3}", data)] or [0]
    for _i in range(rng.choice((1, 2, 4))):
        out[rng.choice(places)] = rng.randrange(256)
    return bytes(out)


def truncate(rng: random.Random, data: bytes, _: str) -> bytes:
    return data[: rng.randrange(len(data))]


def cut_out(rng: random.Random, data: bytes, _: str) -> bytes:
    start = rng.randrange(len(data))
    return data[:start] + data[start + rng.choice((1, 2, 4, 64, 4096)) :]


def repeat_part(rng: random.Random, data: bytes, _: str) -> bytes:
    start, size = rng.randrange(len(data)), rng.choice((1, 4, 64, 4096))
    return data[: start + size] + data[start : start + size] + data[start + size :]


def plant_number(rng: random.Random, data: bytes, _: str) -> bytes:
    at = rng.randrange(max(1, len(data) // 4)) * 4
    return data[:at] + struct.pack("<q", rng.choice(ODD))[:4] + data[at + 4 :]


def append_noise(rng: random.Random, data: bytes, _: str) -> bytes:
    return data + rng.randbytes(rng.choice((1, 16, 1000)))


def evil_text(rng: random.Random, text: bytes, canary: str) -> bytes:
    """What strict JSON or a bound must stop, with the digest as it is."""
    found = json.loads(text)
    evil: list[Callable[[], Any]] = [
        lambda: found["threshold"].update(value=float("nan")),
        lambda: found.update(hop=rng.choice((0, -1, 2**31, 10**9))),
        lambda: found.update(period_s=rng.choice((0, -1.0, 1e300, float("inf")))),
        lambda: found["state"].append({"name": "huge", "shape": [2**20, 2**20], "dtype": "float32"}),
        lambda: found["state"].append({"name": "../" + canary, "shape": [1], "dtype": "float32"}),
        lambda: found["sensors"][0].update(name="\x1b]0;owned\x07\x1b[2J"),
        lambda: found["sensors"][0].update(name="a\u202eb"),
        lambda: found.update(sensors=found["sensors"] * 2),
        lambda: found.update(sensors=found["sensors"] * 5000),
        lambda: found["self_test"].update(steps=10**9),
        lambda: found["self_test"].update(tolerance=1e9),
        lambda: found.update(metrics=json.loads("[" * 50 + "]" * 50)),
        lambda: found.update(metrics={"a": "x" * 10**6}),
        lambda: found.update(format=2),
        lambda: found.update(surprise=canary),
        lambda: found["digests"].update(student=canary),
    ]
    rng.choice(evil)()
    out = json.dumps(found, separators=(",", ":")).encode()
    return rng.choice(
        (out, out[:-1] + b',"hop":1}', out[:-1], b"\xff" + out, out.replace(b'"hop"', b'"hop":1,"hop"', 1))
    )


def other_text(rng: random.Random, text: bytes, _: str) -> bytes:
    """A manifest that every bound lets through, and that is not about this graph, or promises something else."""
    found = json.loads(text)
    other: list[Callable[[], Any]] = [
        lambda: found.update(hop=found["hop"] + 1),
        lambda: found["sensors"].pop(),
        lambda: found["state"].pop() if found["state"] else found.update(hop=1),
        lambda: found["self_test"].update(scores=[s + 1.0 for s in found["self_test"]["scores"]]),
        lambda: found["self_test"].update(tolerance=1.0, scores=[s * 1.2 + 0.1 for s in found["self_test"]["scores"]]),
        lambda: found["state"].append({"name": "more", "shape": [1000, 1000], "dtype": "float32"}),
        lambda: found["sensors"][0].update(low=-3.0e38, high=3.0e38),
    ]
    rng.choice(other)()
    return set_digest(json.dumps(found, separators=(",", ":")).encode(), "0" * 64)


BYTE_KINDS: dict[str, Change] = {
    "any bit flips": flip_bits,
    "any bytes of the structure": flip_structure,
    "any truncation": truncate,
    "any part cut out": cut_out,
    "any part repeated": repeat_part,
    "any planted number": plant_number,
    "any noise behind": append_noise,
}
ANY_KINDS: dict[str, Change] = {
    **BYTE_KINDS,
    "any manifest that is evil": evil_text,
    "any manifest of another graph": other_text,
}
