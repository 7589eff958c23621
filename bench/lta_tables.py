"""The published LTA tables beside ours and beside random scores.

python -m bench.lta_tables --data DIR [--table 1|3|4|5] [--dataset MSL|SMAP] [--seeds 3] [--device auto]
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from bench.lta_cells import CELLS, ROWS, TEACHER_WINDOWS, TRAINED, Budget, Cell, scored, trained
from edgekd.distillation import training_device
from edgekd.runtime.errors import UsageError
from edgekd.runtime.lock import lock_state

WINDOWS = {"MSL": 400, "SMAP": 50}
TABLES = {
    1: ("Base", "Base_small", "full, GRU", "full, RNN", "full, LSTM"),
    3: ("distillation only", "RNN only", "GRU only", "LSTM only"),
}


def cells(datasets: tuple[str, ...], seeds: int, rows: tuple[str, ...], budget: Budget) -> list[Cell]:
    """Whole seeds early."""
    return [
        Cell(dataset, row, TEACHER_WINDOWS[dataset] if row == "Base" else WINDOWS[dataset], seed, budget)
        for seed in range(seeds)
        for row in rows
        for dataset in datasets
    ]


def run(cell: Cell, data: Path, device: str) -> bool:
    """Train and score a cell; False where another process is busy with it or with its teacher."""
    try:
        with lock_state(str(cell.file("pt")), click.echo):
            started, cpu = time.monotonic(), time.process_time()
            scored(cell, data, trained(cell, data, device, say))
            spent = f"{time.monotonic() - started:.0f} s, {time.process_time() - cpu:.0f} s of CPU"
    except UsageError as error:
        click.echo(f"{cell.label}: passed over: {error}", err=True)
        return False
    click.echo(f"{cell.label}: {spent}", err=True)
    return True


def say(event: dict[str, Any]) -> None:
    """One line an epoch."""
    if "validation" in event:
        click.echo(
            f"{event['job']} {event['epoch']}/{event['epochs']} loss {event['loss']:.5f} "
            f"validation {event['validation']:.5f} {event['seconds']:.0f} s", err=True,
        )  # fmt: skip


@click.command()
@click.option("--data", type=click.Path(path_type=Path), envvar="EDGEKD_DATA", required=True, help="Data folder.")
@click.option("--dataset", type=click.Choice(list(WINDOWS)), help="One set alone.")
@click.option("--seeds", default=3, show_default=True, help="How many seeds, from 0 on.")
@click.option("--device", default="auto", show_default=True, help="Where networks train: auto, cpu or cuda.")
def main(data: Path, dataset: str | None, seeds: int, device: str) -> None:
    """Run the cells that are missing."""
    for folder in (CELLS, TRAINED):
        folder.mkdir(parents=True, exist_ok=True)
    rows = tuple(row for row in ROWS if "LSTM" not in row)
    for cell in cells((dataset,) if dataset else tuple(WINDOWS), seeds, rows, Budget()):
        if not cell.file("npz").exists():
            run(cell, data, training_device(device))


if __name__ == "__main__":
    main()
