"""A million lines, a third of them damaged: what becomes of each, and does memory grow?

    python -m bench.promises.damaged_lines [--count 1000000] [--seed 0]

Valid lines (CSV, JSON objects and arrays) and lines that a byte mutator has made of them go through the reader in
pieces of random size, each sample through a detector. A line that was not damaged must come out with its values; every
other must come out or be counted.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np

from bench.results import save
from edgekd.runtime.manifest import Manifest
from edgekd.runtime.sources import Row
from edgekd.runtime.sources.row_reader import RowReader

DAMAGED = 1 / 3
BOUND_MIB = 1.0
WARM_UP = 0.1  # of the lines: caches and arenas of the allocator
PROTOCOL = (
    "valid lines and damaged ones (bytes flipped, dropped, doubled, inserted, cut, joined, endless), pieces of 1 to"
    " 70,000 bytes; RSS: resident pages at the end less those after the first tenth"
)


def fuzz(manifest: Manifest, update: Callable[[np.ndarray], object], count: int, seed: int = 0) -> dict[str, Any]:
    """So many lines through a reader and `update`; raises AssertionError where one is lost."""
    n, fate = len(manifest.sensors), random.Random(seed)
    reader = RowReader(manifest, {})
    expected: deque[float] = deque()  # the first values of undamaged lines that have not come out yet, in order
    lines = rows = undamaged = 0
    resident, began = 0.0, time.monotonic()

    def take(items: list[Any]) -> None:
        nonlocal rows, undamaged
        for row in items:
            assert isinstance(row, Row) and row.values.shape == (n,) and row.values.dtype == np.float32
            rows += 1
            if expected and row.values.tolist() == [expected[0] + j for j in range(n)]:
                expected.popleft()
                undamaged += 1
            update(row.values)

    pending = bytearray()
    for line, first in _lines(n, count, fate):
        if first is not None:
            expected.append(first)
        lines += sum(bool(part.strip()) for part in line.replace(b"\r", b"\n").split(b"\n"))
        pending += line
        while len(pending) > 70_000:
            size = int(70_000 ** fate.random())
            take(reader.feed(bytes(pending[:size])))
            del pending[:size]
        if not resident and lines > WARM_UP * count:
            resident = _rss_mib()
    take(reader.feed(bytes(pending)))
    assert not expected, f"{len(expected)} undamaged lines were lost, first {expected[0]}"
    assert rows + reader.bad == lines, f"{lines} lines, {rows} rows and {reader.bad} bad ones"
    took_s = time.monotonic() - began
    return {
        "lines": lines, "undamaged": undamaged, "damaged, still rows": rows - undamaged, "counted as bad": reader.bad,
        "lines a second": round(lines / took_s), "RSS growth MiB": round(_rss_mib() - resident, 3),
        "bound MiB": BOUND_MIB,
    }  # fmt: skip


def _lines(n: int, count: int, fate: random.Random) -> Iterator[tuple[bytes, float | None]]:
    """Lines with their ends, and the first value of each that is not damaged: a count, the others follow it."""
    for i in range(count):
        values = [float(i % 2**22 + j) for j in range(n)]
        kind = fate.randrange(4)
        line = (
            json.dumps({f"s{j}": value for j, value in enumerate(values)}).encode() if kind == 0
            else json.dumps(values).encode() if kind == 1
            else ",".join(map(str, values)).encode()
        )  # fmt: skip
        if fate.random() < DAMAGED:
            yield damaged(line, fate) + b"\n", None
        else:
            yield line + fate.choice((b"\n", b"\r\n", b" \n")), values[0]


def damaged(line: bytes, fate: random.Random) -> bytes:
    """What a bad cable, a wrong baud rate or a torn write makes of a line; never the line itself."""
    data = bytearray(line)
    for _ in range(fate.randrange(1, 4)):
        at, size = fate.randrange(len(data) + 1), fate.randrange(1, 9)
        match fate.randrange(7):
            case 0:
                data[at:at] = fate.randbytes(size)
            case 1:
                del data[at : at + size]
            case 2:
                data[at:at] = data[at : at + size]
            case 3 if data:
                data[at % len(data)] ^= 1 << fate.randrange(8)
            case 4:
                del data[at:]
            case 5 if fate.random() < 0.02:
                data[at:at] = fate.choice((b"7", b"\xff", b"[", b'"', b",")) * fate.randrange(3000, 9000)
            case _:
                data[at:at] = fate.choice(
                    (b"\n", b"\r", b"\0", b'"', b";", b"nan", b"1e999", b"{", b"_", b"\xef\xbb\xbf")
                )
    return bytes(data) if data != line else line + b"#"


def _rss_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


@click.command()
@click.option("--count", default=1_000_000, show_default=True, help="Lines.")
@click.option("--seed", default=0, show_default=True)
def main(count: int, seed: int) -> None:
    """Measure, print and save."""
    from tempfile import TemporaryDirectory

    from bench.files.speed import untrained
    from edgekd.export import export
    from edgekd.runtime import Detector

    with TemporaryDirectory() as temporary:
        detector = Detector.load(export(untrained(8, "edge")[0], Path(temporary) / "edge.onnx", steps=200).path)
        found = fuzz(detector.manifest, detector.update, count, seed)
    print(json.dumps(found, indent=1))
    save("fuzz", {**found, "holds": found["RSS growth MiB"] < BOUND_MIB}, protocol=PROTOCOL, seed=seed)


if __name__ == "__main__":
    main()
