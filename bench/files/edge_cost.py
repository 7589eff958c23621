"""What a complete `edge` distillation of 25,000 samples of 38 varying sensors takes on this machine.

    python -m bench.files.edge_cost [--threads 2]

Teacher and student with all their epochs, as `edgekd distill` runs them; what the sensors say costs the same.
"""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import torch

from bench.files.speed import recording
from bench.results import save, table
from edgekd.distillation import distill
from edgekd.progress import TrainingProgress

SAMPLES, SENSORS = 25_000, 38


@click.command()
@click.option("--threads", default=2, show_default=True, help="Threads of torch.")
def main(threads: int) -> None:
    """Measure, print and save."""
    torch.set_num_threads(threads)
    started = time.monotonic()
    cpu = time.process_time()
    with TemporaryDirectory() as folder, TrainingProgress() as progress:
        distill(recording(SENSORS, SAMPLES), Path(folder) / "student.pt", preset="edge", report=progress)
    rows = [{
        "samples": SAMPLES, "sensors": SENSORS, "threads": threads,
        "minutes": (time.monotonic() - started) / 60, "CPU minutes": (time.process_time() - cpu) / 60,
    }]  # fmt: skip
    print(table(rows))
    save("edge_cost", rows, preset="edge", seed=0)


if __name__ == "__main__":
    main()
