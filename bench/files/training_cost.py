"""What `edgekd distill` takes on this machine for 25,000 samples of 38 varying sensors.

    python -m bench.files.training_cost [--threads 2] [PRESET ...]

Teacher and student with all their epochs, committee, slow monitors and threshold; what the sensors say costs the same.
"""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import torch

from bench.files.speed import recording
from bench.results import kept, save, table
from edgekd.distillation import distill
from edgekd.progress import TrainingProgress

SAMPLES, SENSORS = 25_000, 38


def measured(preset: str, threads: int) -> dict[str, Any]:
    """One row."""
    started, cpu = time.monotonic(), time.process_time()
    with TemporaryDirectory() as folder, TrainingProgress() as progress:
        distill(recording(SENSORS, SAMPLES), Path(folder) / "student.pt", preset=preset, report=progress)
    return {
        "preset": preset, "samples": SAMPLES, "sensors": SENSORS, "threads": threads,
        "minutes": (time.monotonic() - started) / 60, "CPU minutes": (time.process_time() - cpu) / 60,
    }  # fmt: skip


@click.command()
@click.option("--threads", default=2, show_default=True, help="Threads of torch.")
@click.argument("presets", nargs=-1)
def main(threads: int, presets: tuple[str, ...]) -> None:
    """Measure, print and save."""
    torch.set_num_threads(threads)
    rows = {row["preset"]: row for row in kept("training_cost") or []}
    for preset in presets or ("joint", "innovations"):
        rows[preset] = measured(preset, threads)
        print(table([rows[preset]]), flush=True)
    save("training_cost", list(rows.values()), seed=0)


if __name__ == "__main__":
    main()
