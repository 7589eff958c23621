"""Our row of the TSB-AD benchmark: a folder of its CSV files in, its table out.

    python -m bench.detection.tsb_ad FOLDER [--board FILE ...] [--preset NAME ...]
    python -m bench.detection.tsb_ad --ours --data DIR

Its protocol (Liu & Paparrizos, NeurIPS 2024): one setting for all files; `..._tr_N_1st_M.csv` trains on its first N
rows and is scored from its first row to its last, the training part too; the measures are TSB-AD's own code, in an
environment of their own, with the widest buffer by the period of the first channel. Ours that need no threshold are
computed beside them, `ours - theirs` is the largest difference. FILE: what the benchmark prints for each file and
method (`*_mergedTable_VUS-PR.csv` of its repository): its best methods' means over these very files stand beside ours.
--ours writes SKAB and MSL as such files and measures on them. What is done is kept in the result file.
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
import subprocess
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from bench.detection.innovations import SETS, Entity
from bench.detection.peers import python
from bench.results import kept, rounded, save, table
from edgekd.checkpoint import Checkpoint
from edgekd.data import Recording
from edgekd.distillation import distill
from edgekd.evaluation.events import point_scores
from edgekd.evaluation.metrics import auc_pr, vus
from edgekd.runtime.errors import EdgeKDError, UsageError

RESULT = "tsb_ad"
NAME = re.compile(r"_tr_(\d+)_1st_\d+$")
PRESETS = ("joint", "innovations", "ensemble")
SHOWN = 5  # methods of the board
DIFFERENCE = "ours - theirs"


def series(path: Path) -> tuple[Recording, int]:
    """A file of the benchmark and the number of its rows that train; rows with an empty cell are left out, as there."""
    named = NAME.search(path.stem)
    if named is None:
        raise UsageError(f"{path.name}: not named as TSB-AD's files are, ..._tr_N_1st_M.csv")
    with path.open() as file:
        columns = file.readline().strip().split(",")
        cells = np.genfromtxt(file, delimiter=",", dtype=np.float64, ndmin=2)
    cells = cells[~np.isnan(cells).any(1)]
    if columns[-1] != "Label":
        raise UsageError(f"{path.name}: its last column is {columns[-1]!r}; TSB-AD's is 'Label'")
    values = np.ascontiguousarray(cells[:, :-1], np.float32)
    return Recording(values, tuple(columns[:-1]), 1.0, cells[:, -1] > 0, source=path.name), int(named[1])


def scores_of(recording: Recording, train: int, preset: str) -> np.ndarray:
    """Point scores (T,) of a detector that was trained on the first `train` rows."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "student.pt"
        distill(recording.slice(0, train), path, preset=preset)
        step = Checkpoint.load(path).step()
        found = step.score(recording)
    return point_scores(found.samples, found.scores.astype(np.float64), step.hop, len(recording))[0]


def their_measures(first: np.ndarray, labels: np.ndarray, scores: dict[str, np.ndarray]) -> dict[str, Any]:
    """What TSB-AD's own code says of each detector's scores, and the buffer that it chose."""
    with TemporaryDirectory() as folder:
        given, told = Path(folder) / "given.npz", Path(folder) / "told.json"
        np.savez(given, first=first, labels=labels, **scores)  # type: ignore[arg-type]
        subprocess.run([python(), Path(__file__).with_name("tsb_ad_worker.py"), given, told], check=True)
        found: dict[str, Any] = json.loads(told.read_text())
        return found


def our_measures(labels: np.ndarray, scores: np.ndarray, buffer: int) -> dict[str, float]:
    """Those of the benchmark's measures that need no threshold."""
    pr, roc = vus(labels, scores, buffer)
    area = float(roc_auc_score(labels, scores))
    return {"AUC-PR": auc_pr(labels, scores), "AUC-ROC": area, "VUS-PR": pr, "VUS-ROC": roc}


def measured(path: Path, presets: tuple[str, ...]) -> list[dict[str, Any]]:
    """A row for each preset on one file."""
    recording, train = series(path)
    labels = recording.labels
    assert labels is not None
    scores, seconds, failed = {}, {}, []
    for preset in presets:
        begun = time.monotonic()
        try:
            scores[preset] = scores_of(recording, train, preset)
        except EdgeKDError as error:
            failed.append({"file": path.name, "detector": preset, "failed": str(error)})
        seconds[preset] = time.monotonic() - begun
    if not scores:
        return failed
    told = their_measures(recording.values[:, 0].astype(float), labels, scores)
    rows = []
    for preset, figures in told["figures"].items():
        ours = our_measures(labels, scores[preset], told["buffer"])
        difference = max(abs(figures[key] - value) for key, value in ours.items())
        rows.append({"file": path.name, "detector": preset, "Time": seconds[preset], **figures, DIFFERENCE: difference})
    return [*rows, *failed]


def board(files: list[Path], names: set[str]) -> list[dict[str, Any]]:
    """The benchmark's best methods on the files of these names, by the mean of what it prints."""
    found = []
    for file in files:
        with file.open() as opened:
            rows = [row for row in csv.DictReader(opened) if row["file"] in names]
        methods = [name for name in (rows[0] if rows else {}) if name != "file" and not _is_fact(name)]
        means = {name: float(np.mean([float(row[name]) for row in rows])) for name in methods}
        best = sorted(means, key=lambda name: -means[name])[:SHOWN]
        found += [{"detector": f"{name}, as printed", "files": len(rows), "VUS-PR": means[name]} for name in best]
    return found


def _is_fact(column: str) -> bool:
    """Columns that are about the file."""
    return column.startswith(("ts_", "num_", "avg_", "anomaly_", "point_", "seq_"))


def summary(rows: list[dict[str, Any]], names: set[str]) -> list[dict[str, Any]]:
    """A row a detector: the mean of each measure over the files; one that gave no scores counts as 0 there, as TSB-AD
    does."""
    found = []
    for detector in dict.fromkeys(row["detector"] for row in rows):
        mine = [row for row in rows if row["detector"] == detector and row["file"] in names]
        measures = next(([*row][2:-1] for row in mine if "failed" not in row), [])  # but for file, detector, digest
        means = {
            key: float((max if key == DIFFERENCE else np.mean)([row.get(key, 0.0) for row in mine])) for key in measures
        }
        found.append(
            {"detector": detector, "files": len(mine), "failed": sum("failed" in row for row in mine), **means}
        )
    return found


def write(entity: Entity, folder: Path) -> None:
    """One of our series as a file of the benchmark."""
    test = entity.test
    assert test.labels is not None
    values = np.concatenate([entity.train.values, test.values])
    labels = np.concatenate([np.zeros(len(entity.train)), test.labels])
    train, first = len(entity.train), len(entity.train) + int(test.labels.argmax())
    name = f"{entity.set}_{entity.name.replace('/', '-')}_tr_{train}_1st_{first}.csv"
    np.savetxt(
        folder / name, np.column_stack([values, labels]), "%.9g", ",", comments="",
        header=",".join([f"sensor_{k}" for k in range(values.shape[1])] + ["Label"]),
    )  # fmt: skip


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path), required=False)
@click.option("--board", "boards", multiple=True, type=click.Path(exists=True, path_type=Path), help="Printed figures.")
@click.option("--preset", "presets", multiple=True, default=PRESETS, show_default=True)
@click.option("--ours", is_flag=True, help="Measure on SKAB and MSL, written as such files.")
@click.option("--data", type=click.Path(path_type=Path), envvar="EDGEKD_DATA", help="Data folder of --ours.")
def main(
    folder: Path | None, boards: tuple[Path, ...], presets: tuple[str, ...], ours: bool, data: Path | None
) -> None:
    """Measure what is missing, print and save."""
    torch.set_num_threads(1)
    with TemporaryDirectory() as made:
        if ours:
            if data is None:
                raise click.UsageError("--ours reads EDGEKD_DATA; give --data DIR")
            folder = Path(made)
            for name in ("SKAB", "MSL"):
                for entity in SETS[name](data):
                    if entity.test.labels is not None and entity.test.labels.any():
                        write(entity, folder)
        if folder is None:
            raise click.UsageError("give the folder of TSB-AD's CSV files, or --ours")
        _measure(sorted(folder.glob("*.csv")), "our series" if ours else folder.name, list(boards), presets)


def _measure(paths: list[Path], folder: str, boards: list[Path], presets: tuple[str, ...]) -> None:
    figures: dict[str, Any] = kept(RESULT)
    rows: list[dict[str, Any]] = figures.get("series", [])
    names = {path.name for path in paths}
    for path in paths:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
        done = {row["detector"] for row in rows if row["file"] == path.name and row["sha256"] == digest}
        missing = tuple(preset for preset in presets if preset not in done)
        if not missing:
            continue
        rows = [row for row in rows if row["file"] != path.name or row["detector"] not in missing]
        rows += [{**row, "sha256": digest} for row in measured(path, missing)]
        told = [*summary(rows, names), *board(boards, names)]
        save(RESULT, rounded(figures | {folder: told, "series": rows}))
    print(table([*summary(rows, names), *board(boards, names)]))


if __name__ == "__main__":
    main()
