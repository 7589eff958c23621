"""A step of the file of 0.1.0 as 0.1.0 ran it, and of today's with the same weights: fewer nodes, bound buffers.

    python -m bench.files.nodes --before=CHECKOUT [--rounds N]

CHECKOUT is one of 0.1.0, which trains for one epoch and exports; today's files are of the same checkpoints.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np
import onnx

from bench.files.speed import bare, in_turn
from bench.results import kept, rounded, save, table
from edgekd.checkpoint import Checkpoint
from edgekd.export import export
from edgekd.runtime import Detector

QUICK = ("--set", "epochs=1", "--set", "distill=false")
STUDENTS = {
    "edge, 8 sensors": (8, ("--preset", "edge", *QUICK), 0.88),
    "edge, 38 sensors": (38, ("--preset", "edge", *QUICK), 0.92),
    "ensemble, 38 sensors": (38, ("--method", "linear", "--preset", "ensemble"), 0.70),
    "mahalanobis, 38 sensors": (38, ("--method", "linear", "--preset", "mahalanobis"), 0.80),
}
SAMPLES, STEPS, TURN = 3_000, 200, 10


def old_files(folder: Path, before: Path, sensors: int, how: tuple[str, ...]) -> tuple[Path, dict[str, Path]]:
    """A student of 0.1.0 and its float files."""

    def edgekd(*words: object) -> None:
        command = [sys.executable, "-c", "from edgekd.cli import main; main()", *map(str, words)]
        environment = os.environ | {"PYTHONPATH": str(before)}
        subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)

    edgekd("simulate", "normal.csv", "--samples", SAMPLES, "--sensors", sensors, "--fault-free", "--seed", 1)
    edgekd("distill", "normal.csv", "-o", "student.pt", *how)
    files = {format: folder / f"old.{format}" for format in ("onnx", "tflite")}
    for path in files.values():
        edgekd("export", "student.pt", "-o", path)
    return folder / "student.pt", files


def as_then(detector: Detector, blocks: np.ndarray) -> Callable[[], None]:
    """The engine as 0.1.0 asked it: feeds in a plain dictionary, fresh arrays back."""
    manifest = detector.manifest
    feeds = {**manifest.cold_state(), "valid": np.ones(blocks.shape[-1], np.float32), "samples": blocks[0]}
    names, at = [spec.name for spec in manifest.state], 0

    def run() -> None:
        nonlocal at
        at += 1
        feeds["samples"] = blocks[at % len(blocks)]
        found = detector.engine.run(feeds)
        feeds.update(zip(names, found[len(manifest.outputs) :]))

    return run


def measured(student: str, before: Path, rounds: int, folder: Path) -> list[dict[str, Any]]:
    """A row for each format."""
    sensors, how, bound = STUDENTS[student]
    checkpoint, files = old_files(folder, before, sensors, how)
    loaded = Checkpoint.load(checkpoint)
    rows = []
    for format, old_path in files.items():
        done = export(loaded, folder / f"new.{format}", format=format, steps=STEPS)
        old, new = (Detector.load(path, check=False, probe=False) for path in (old_path, done.path))
        hop = new.manifest.hop
        values = loaded.replay().values
        blocks = np.ascontiguousarray(values[: len(values) // hop * hop].reshape(-1, hop, sensors))
        calls = {"old": as_then(old, blocks), "new": bare(new, blocks)}
        times = in_turn({name: _turn(call) for name, call in calls.items()}, rounds)
        nodes = [len(onnx.load(path).graph.node) if format == "onnx" else "" for path in (old_path, done.path)]
        ratio = float(np.median(times["new"] / times["old"]))
        rows.append(
            {
                "student": student, "format": format, "nodes 0.1.0": nodes[0], "nodes": nodes[1],
                **{f"{name} us": float(np.median(of) * 1e6 / TURN) for name, of in times.items()},
                "new / old": ratio, "of the fastest": float(times["new"].min() / times["old"].min()),
                "bound": bound if format == "onnx" else "", "worst score error": done.parity.max_score_error,
            }
        )  # fmt: skip
    return rows


def _turn(call: Callable[[], None]) -> Callable[[], None]:
    def several() -> None:
        for _ in range(TURN):
            call()

    return several


@click.command()
@click.option("--before", type=click.Path(file_okay=False, exists=True, path_type=Path), required=True)
@click.option("--rounds", default=300, show_default=True)
@click.option("--student", "students", multiple=True, type=click.Choice(list(STUDENTS)), default=list(STUDENTS))
def main(before: Path, rounds: int, students: tuple[str, ...]) -> None:
    """Measure, print and save; rows that are not measured again stay as they were."""
    rows = [row for row in kept("nodes") or [] if row["student"] not in students]
    for student in students:
        with TemporaryDirectory() as folder:
            rows += rounded(measured(student, before.resolve(), rounds, Path(folder)))
        print(table(rows[-2:]), flush=True)
        rows.sort(key=lambda row: list(STUDENTS).index(row["student"]))
        save("nodes", rows, protocol=f"medians of {rounds} rounds of {TURN} steps in turn, one thread")


if __name__ == "__main__":
    main()
