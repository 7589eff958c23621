"""The improved student as int8 files, streamed by `edgekd-run` over the whole MSL test set, against batch evaluation.

    python -m bench.improved_lta.streamed --data DIR

One file for each of the 27 channels, since a device watches one, and one run of the real command for each. The figures
are those of the channels together, each at the threshold in its own file.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np

from bench.improved_lta.entities import LENGTHS, Cell, Entity, entities, trained
from bench.improved_lta.measures import Verdicts, together, under_all_protocols
from bench.results import save, table
from edgekd.data import save as save_recording
from edgekd.evaluation.score_model import ModelScores, score_model
from edgekd.export import export
from edgekd.runtime.detector import Detector

DATASET = "MSL"
PATHS = ("float student, batch path", "int8 file, evaluated", "int8 file, streamed by edgekd-run")


def exported(cell: Cell) -> str:
    """Write the cell's int8 file; returns why the gate would not let it through, empty where it does."""
    checkpoint = trained(cell)
    done = export(checkpoint, cell.file("onnx"), int8="default", force=True)
    return done.written.misses


def streamed(cell: Cell) -> Verdicts:
    """What the real command says of the test recording, line by line."""
    recording = cell.file("csv")
    if not recording.exists():
        save_recording(cell.entity.test, recording)
    command = [sys.executable, "-m", "edgekd.runtime.cli", "--model", cell.file("onnx"), "--csv", recording, "--scores"]
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, text=True, check=True)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    told = [(event["sample"], event["score"]) for event in events if event["event"] == "score"]
    samples, scores = (np.array(column) for column in zip(*told))
    return Verdicts(samples, scores / Detector.load(cell.file("onnx")).threshold)


def evaluated(path: Path, entity: Entity) -> Verdicts:
    """What a checkpoint or a file says, all windows at once."""
    found: ModelScores = score_model(path, entity.test)
    return Verdicts(found.samples, found.scores / found.threshold)


@click.command()
@click.option("--data", type=click.Path(path_type=Path), envvar="EDGEKD_DATA", required=True, help="Data folder.")
def main(data: Path) -> None:
    """Export, stream, compare, print and save."""
    chosen = tuple(entity for tuning in (False, True) for entity in entities(data, DATASET, tuning))
    chosen = tuple(sorted(chosen, key=lambda entity: entity.start))
    cells = [Cell(entity) for entity in chosen]
    refused = {cell.entity.name: why for cell in cells if (why := exported(cell))}
    ways: dict[str, Callable[[Cell], Verdicts]] = dict(zip(PATHS, (
        lambda cell: evaluated(cell.file("pt"), cell.entity),
        lambda cell: evaluated(cell.file("onnx"), cell.entity),
        streamed,
    )))  # fmt: skip
    recording = together(chosen)
    rows: list[dict[str, Any]] = []
    verdicts = {}
    for path, way in ways.items():
        click.echo(path, err=True)
        verdicts[path] = [way(cell) for cell in cells]
        figures = under_all_protocols(recording, verdicts[path], LENGTHS[DATASET][0])
        rows.append({"path": path, **{name: round(value, 5) for name, value in figures.items()}})
    apart = max(
        float(np.max(np.abs(one.scores / other.scores - 1), initial=0.0))
        for one, other in zip(verdicts[PATHS[1]], verdicts[PATHS[2]])
    )
    print(table(rows), f"largest relative difference of a score, streamed against evaluated: {apart:.2g}", sep="\n\n")
    save("lta_streamed", rows, channels=len(cells), seed=0, refused_by_the_gate=refused,
         largest_relative_difference=apart)  # fmt: skip


if __name__ == "__main__":
    main()
