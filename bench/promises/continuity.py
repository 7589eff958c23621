"""Do verdicts and alarms go on while characters are damaged? Each kind of them, by the share of damaged rows.

    python -m bench.promises.continuity [--seeds 5]

The simulated plant, a week with ten faults for each seed, is written as lines: a count, a time, 12 values, a checksum
where that is the kind. In a share of the rows one character of one kind is damaged: another digit (or separator, or
line end) takes its place, or one of its bits is flipped. Headers come again before a share of the rows, damaged. The
lines are read as a live input reads them and as a file is read, by a linear detector of another two weeks of the plant;
each figure is the worse of the two.
"""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np

from bench.results import save, table
from edgekd.runtime.detector import Detector, Verdict
from edgekd.runtime.episodes import Episodes
from edgekd.runtime.layout import Layout
from edgekd.runtime.loop import Loop, Watcher
from edgekd.runtime.sources import CHUNK_BYTES, Items, Row, Source
from edgekd.runtime.sources.row_reader import RowReader
from edgekd.simulation.simulate import simulate

SHARES = (0.001, 0.01, 0.02, 0.05)
BOUND, BOUND_AT, BOUND_KINDS = 0.97, 0.02, ("values", "times", "counts")
SAMPLES, TRAIN = 10_080, 20_000
BEGAN_S = 1_767_571_200  # 2026-01-05, UTC
DIGITS = b"0123456789"
PROTOCOL = (
    "verdicts: share of the clean run's that have one within half a hop; alarms: share of its alarms that one overlaps,"
    " a hop more or less; false: alarms a day that overlap none of the clean run's; the worse of live and file"
)
COUNTED = ("counts", "checksums")  # what is read by the rows' count; the others by their time
Lines = list[bytes]
Damage = Callable[[bytes, random.Random], bytes]


@dataclass
class Heard:
    """What a run said, in seconds of the rows' own time."""

    verdicts: list[float] = field(default_factory=list)
    alarms: list[list[float]] = field(default_factory=list)
    """Beginning and end of each."""


class Pieces(Source):
    """Bytes in pieces, as a live input or as those of a file."""

    name = "lines"

    def __init__(self, data: bytes, rows: RowReader, live: bool) -> None:
        self.rows: RowReader = rows
        self.live = live
        self._data = data

    def __iter__(self) -> Iterator[Items]:
        for at in range(0, len(self._data), CHUNK_BYTES):
            yield self.rows.feed(self._data[at : at + CHUNK_BYTES])
        yield self.rows.end()


class Clock(Watcher):
    """Knows the time of the newest sample; one without a label comes a period after the one before."""

    def __init__(self, period_s: float, heard: Heard) -> None:
        self.now_s = BEGAN_S - period_s
        self._period_s, self._heard = period_s, heard

    def sample(self, row: Row) -> None:
        """Take its time."""
        self.now_s = self.now_s + self._period_s if row.seconds is None else row.seconds

    def verdict(self, verdict: Verdict, row: Row) -> None:
        """Note when it came."""
        self._heard.verdicts.append(self.now_s)


def heard(detector: Detector, lines: Lines, layout: Layout, live: bool) -> Heard:
    """What is said of these lines."""
    found, open_alarms = Heard(), dict[str, list[float]]()

    def emit(event: Any) -> None:
        kind = event.get("kind", "")
        if event["event"] == "anomaly":
            open_alarms[kind] = [clock.now_s, float("inf")]
            found.alarms.append(open_alarms[kind])
        elif event["event"] == "anomaly_end":
            open_alarms[kind][1] = clock.now_s

    manifest = detector.manifest
    reader = RowReader(manifest, {}, "anything" if live else "fits", "lines", layout, live, likely=live)
    loop = Loop(Pieces(b"".join(lines), reader, live), detector.stream(), Episodes(), emit, lambda words: None)
    clock = Clock(manifest.period_s, found)
    loop.watchers.append(clock)
    loop.run()
    return found


def compared(clean: Heard, other: Heard, hop_s: float) -> tuple[int, int, int]:
    """Of the clean run's verdicts and alarms so many are there; and alarms that it had not."""
    ends = np.sort(other.verdicts)
    near = np.searchsorted(ends, np.array(clean.verdicts) + hop_s / 2, "right")
    verdicts = int((near > np.searchsorted(ends, np.array(clean.verdicts) - hop_s / 2)).sum())

    def overlap(a: list[float], b: list[float]) -> bool:
        return a[0] <= b[1] + hop_s and b[0] <= a[1] + hop_s

    kept = sum(any(overlap(a, b) for b in other.alarms) for a in clean.alarms)
    return verdicts, kept, sum(not any(overlap(a, b) for b in clean.alarms) for a in other.alarms)


def flipped(char: int, fate: random.Random, others: bytes) -> bytes:
    """Another character in the place of this one: of the same kind, or one whose bit was flipped."""
    other = fate.choice([c for c in others if c != char]) if fate.random() < 0.5 else char ^ 1 << fate.randrange(8)
    return bytes([other])


def damaged(line: bytes, places: list[int], fate: random.Random, others: bytes = DIGITS) -> bytes:
    """A line of which one of the characters at these places is another."""
    at = fate.choice(places)
    return line[:at] + flipped(line[at], fate, others) + line[at + 1 :]


def digits(line: bytes, first: int, last: int) -> list[int]:
    """Places of digits in the cells from first to last."""
    cell = np.cumsum([0, *(char in b",*" for char in line[:-1])])
    return [i for i, char in enumerate(line) if char in b"0123456789ABCDEF" and first <= cell[i] <= last]


def bare(line: bytes, fate: random.Random) -> bytes:
    """A line whose end is lost, doubled, of another kind or in another place."""
    at = fate.randrange(1, len(line) - 1)
    return fate.choice([line[:-1], line + b"\n", line[:-1] + b"\r", line[:at] + b"\n" + line[at:]])


def kinds(names: tuple[str, ...]) -> dict[str, Damage]:
    """What damages a line, by what is damaged: `count,time,value,…[*checksum]`."""
    n, header = len(names), b",".join([b"n", b"time", *(name.encode() for name in names)]) + b"\n"
    letters = list(range(len(header) - 1))
    return {
        "values": lambda line, fate: damaged(line, digits(line, 2, n + 1), fate),
        "times": lambda line, fate: damaged(line, digits(line, 1, 1), fate),
        "counts": lambda line, fate: damaged(line, digits(line, 0, 0), fate),
        "checksums": lambda line, fate: damaged(line, digits(line, n + 2, n + 2), fate, b"0123456789ABCDEF"),
        "separators": lambda line, fate: damaged(line, [i for i, c in enumerate(line) if c in b","], fate, b",;\t |."),
        "headers": lambda line, fate: damaged(header, letters, fate, b"abcdefghijklmnop_0123,;") + line,
        "line ends": bare,
    }


def written(values: np.ndarray, names: tuple[str, ...], period_s: float, checksum: bool) -> Lines:
    """The header and the rows."""
    seconds = BEGAN_S + np.arange(len(values)) * int(period_s)
    times = np.datetime_as_string(seconds.astype("datetime64[s]"))
    texts = [",".join(["n", "time", *names])]
    texts += [f"{i},{time}Z," + ",".join(map(str, row)) for i, (time, row) in enumerate(zip(times, values), 1000)]
    return [(f"{text}*{_xor(text):02X}\n" if checksum else f"{text}\n").encode() for text in texts]


def _xor(text: str) -> int:
    return int(np.bitwise_xor.reduce(np.frombuffer(text.encode(), np.uint8)))


def trained(folder: Path) -> Detector:
    """A linear detector of two normal weeks."""
    for command in (
        ["simulate", "normal.csv", "--samples", TRAIN, "--fault-free", "--seed", 1],
        ["distill", "normal.csv", "-o", "student.pt", "--method", "linear"],
        ["export", "student.pt", "-o", "student.onnx"],
    ):
        line = [sys.executable, "-m", "edgekd.cli", *map(str, command)]
        subprocess.run(line, cwd=folder, check=True, capture_output=True)
    return Detector.load(folder / "student.onnx")


def measure(detector: Detector, seeds: int) -> list[dict[str, Any]]:
    """A row of figures for each kind and share."""
    manifest = detector.manifest
    plants = [simulate(SAMPLES, seed=seed).recording.values for seed in range(2, 2 + seeds)]  # the first trained it
    figures = []
    for kind, damage in kinds(manifest.names).items():
        layout = Layout(time=("time",), gaps=True, sequence="n" * (kind in COUNTED), checksum=kind == "checksums")
        rows = [written(values, manifest.names, manifest.period_s, layout.checksum) for values in plants]
        clean = {live: [heard(detector, lines, layout, live) for lines in rows] for live in (True, False)}
        for share in SHARES:
            bad = [spoiled(lines, damage, share, random.Random(seed)) for seed, lines in enumerate(rows)]
            ways = []
            for live, wanted in clean.items():
                pairs = zip(wanted, (heard(detector, lines, layout, live) for lines in bad))
                ways.append(kept(list(pairs), manifest.hop * manifest.period_s))
            worst = {key: (max if key == "false" else min)(way[key] for way in ways) for key in ways[0]}
            figures.append({"kind": kind, "rows damaged": share, **worst})
    return figures


def spoiled(lines: Lines, damage: Damage, share: float, fate: random.Random) -> Lines:
    """The lines, so many of them damaged; the header at their head is not."""
    return [damage(line, fate) if i and fate.random() < share else line for i, line in enumerate(lines)]


def kept(pairs: list[tuple[Heard, Heard]], hop_s: float) -> dict[str, float]:
    """Shares of verdicts and alarms, and false alarms a day, of clean runs and damaged ones."""
    verdicts, alarms, false = np.sum([compared(clean, other, hop_s) for clean, other in pairs], axis=0)
    of = sum(len(clean.verdicts) for clean, _ in pairs)
    days = of * hop_s / 86_400
    return {
        "verdicts": round(float(verdicts / of), 4),
        "alarms": round(float(alarms / sum(len(clean.alarms) for clean, _ in pairs)), 4),
        "false": round(float(false / days), 2),
    }


def words(row: dict[str, Any]) -> str:
    """A cell of the page's table."""
    return f"{row['verdicts']:.1%}, {row['alarms']:.1%}, {row['false']:.1f}"


@click.command()
@click.option("--seeds", default=5, show_default=True, help="Recordings.")
def main(seeds: int) -> None:
    """Measure, print and save; exits with 1 where a bound does not hold."""
    with TemporaryDirectory() as folder:
        figures = measure(trained(Path(folder)), seeds)
    rows = [
        {"damaged": kind} | {f"{row['rows damaged']:.1%} of rows": words(row) for row in figures if row["kind"] == kind}
        for kind in dict.fromkeys(row["kind"] for row in figures)
    ]
    print(table(rows))
    bound = [row for row in figures if row["kind"] in BOUND_KINDS and row["rows damaged"] == BOUND_AT]
    holds = all(min(row["verdicts"], row["alarms"]) >= BOUND for row in bound)
    save("continuity", {"rows": figures, "table": rows, "bound": BOUND, "holds": holds}, protocol=PROTOCOL)
    raise SystemExit(not holds)


if __name__ == "__main__":
    main()
