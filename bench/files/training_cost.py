"""What `edgekd distill` takes on this machine for 25,000 samples of 38 varying sensors.

    python -m bench.files.training_cost [--threads 2] [PRESET ...]
    python -m bench.files.training_cost --before=CHECKOUT --data DIR

Teacher and student with all their epochs, committee, slow monitors and threshold; what the sensors say costs the same.

With CHECKOUT, one of 0.1.0: preset `edge` on SMD's machine-1-2 (23,702 samples of 38 sensors) as 0.1.0 trained it, as
today does, and as today does without a teacher, one after the other, with what each detects on the test part.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import torch

from bench.files.speed import recording
from bench.results import kept, save, table
from edgekd.checkpoint import Checkpoint
from edgekd.data import load
from edgekd.distillation import distill
from edgekd.evaluation.protocols import protocols
from edgekd.progress import TrainingProgress

SAMPLES, SENSORS = 25_000, 38
MACHINE = "smd/machine-1-2.npz"
TRAIN = """
import sys, torch
from pathlib import Path
from edgekd.data import load
from edgekd.distillation import distill
torch.set_num_threads(int(sys.argv[4]))
settings = {} if sys.argv[3] == "teacher" else {"distill": False}
distill(load(sys.argv[1], "train"), Path(sys.argv[2]), method="lta", preset="edge", settings=settings)
"""


def measured(preset: str, threads: int) -> dict[str, Any]:
    """One row."""
    started, cpu = time.monotonic(), time.process_time()
    with TemporaryDirectory() as folder, TrainingProgress() as progress:
        distill(recording(SENSORS, SAMPLES), Path(folder) / "student.pt", preset=preset, report=progress)
    return {
        "preset": preset, "samples": SAMPLES, "sensors": SENSORS, "threads": threads,
        "minutes": (time.monotonic() - started) / 60, "CPU minutes": (time.process_time() - cpu) / 60,
    }  # fmt: skip


def compared(before: Path, data: Path, threads: int) -> list[dict[str, Any]]:
    """A row for each way: what it took, its share of what 0.1.0 took, and what its student detects."""
    here = Path(__file__).parents[2]
    ways = {"0.1.0": (before, "teacher"), "today": (here, "teacher"), "today, no teacher": (here, "none")}
    rows: list[dict[str, Any]] = []
    for way, (checkout, teacher) in ways.items():
        with TemporaryDirectory() as folder:
            student = Path(folder) / "student.pt"
            started, cpu = time.monotonic(), _of_children()
            subprocess.run(
                [sys.executable, "-c", TRAIN, data / MACHINE, student, teacher, str(threads)], cwd=folder, check=True,
                env=os.environ | {"PYTHONPATH": str(checkout)},
            )  # fmt: skip
            minutes, cpu = (time.monotonic() - started) / 60, _of_children() - cpu
            step, test = Checkpoint.load(student).step(), load(str(data / MACHINE), "test")
        found = step.score(test)
        vus = protocols(test, found.samples, found.scores.astype(float), step.hop)["vus_pr"]
        rows.append({"way": way, "minutes": minutes, "CPU minutes": cpu / 60, "VUS-PR": vus})
        rows[-1]["of 0.1.0"] = rows[-1]["CPU minutes"] / rows[0]["CPU minutes"]
        print(table(rows[-1:]), flush=True)
    return rows


def _of_children() -> float:
    """Processor seconds of the processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


@click.command()
@click.option("--threads", default=2, show_default=True, help="Threads of torch.")
@click.option("--before", type=click.Path(file_okay=False, exists=True, path_type=Path), help="A checkout of 0.1.0.")
@click.option("--data", type=click.Path(path_type=Path), envvar="EDGEKD_DATA", help="Data folder, for --before.")
@click.argument("presets", nargs=-1)
def main(threads: int, before: Path | None, data: Path | None, presets: tuple[str, ...]) -> None:
    """Measure, print and save."""
    if before is not None:
        if data is None:
            raise click.UsageError("--before reads EDGEKD_DATA; give --data DIR")
        save("training_before", compared(before.resolve(), data, threads), seed=0, threads=threads)
        return
    torch.set_num_threads(threads)
    rows = {row["preset"]: row for row in kept("training_cost") or []}
    for preset in presets or ("joint", "innovations"):
        rows[preset] = measured(preset, threads)
        print(table([rows[preset]]), flush=True)
    save("training_cost", list(rows.values()), seed=0)


if __name__ == "__main__":
    main()
