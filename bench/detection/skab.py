"""Every SKAB run by its usual protocol: trained on the run's own first 400 rows, scored on the whole run.

    python -m bench.detection.skab --data DIR

One run has about a hundred verdicts at hop 10, so that random scores spread by .05 of VUS-PR: a single run decides
little, seventeen do.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np
import torch

from bench.results import kept, save, table
from edgekd.checkpoint import Checkpoint
from edgekd.data import Recording, load
from edgekd.distillation import distill, teacher_path
from edgekd.evaluation.report import evaluate_scores
from edgekd.methods.regression.scorers import StepScorer

TRAINED_ON = 400
# (name, method, preset, settings); undistilled, since 400 rows teach a teacher nothing either
DETECTORS: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    ("edge", "lta", "edge", {"distill": False}),
    *((f"linear {p}", "linear", p, {}) for p in ("signature-energy", "mahalanobis", "sample-pca", "ensemble")),
)
TEACHER_EPOCHS = 20  # of some forty windows each
TAUGHT = ("LTA teacher", "regression of it")


@click.command()
@click.option("--data", type=click.Path(path_type=Path), envvar="EDGEKD_DATA", required=True, help="Data folder.")
@click.option("--only", type=click.Choice(["detectors", "regression"]), help="The one or the other; the rest is kept.")
def main(data: Path, only: str | None) -> None:
    """Measure, print and save."""
    torch.set_num_threads(1)
    archive = data / "skab" / "SKAB.npz"
    runs = ["/".join(str(run).rsplit("_", 1)) for run in np.load(archive)["files"]]
    rows = [row for row in kept("skab") or [] if only and (row["detector"] in TAUGHT) == (only == "detectors")]
    for run in runs:
        spec = f"{archive}#{run}@{TRAINED_ON}"
        train, test = load(spec, "train"), load(spec, "test")
        with TemporaryDirectory() as folder:
            checkpoints = {} if only == "regression" else detectors(train, Path(folder))
            if only != "detectors":
                checkpoints |= regression(train, Path(folder))
        for name, checkpoint in checkpoints.items():
            rows.append(measured(run, name, checkpoint, test))
            print(table(rows[-1:]), flush=True)
    print(table(summary(rows)))
    save("skab", rows, summary=summary(rows), trained_on=TRAINED_ON, teacher_epochs=TEACHER_EPOCHS, seed=0)


def detectors(train: Recording, folder: Path) -> dict[str, Checkpoint]:
    """Every detector of DETECTORS, trained on one run's first rows."""
    return {
        name: distill(train, folder / "s.pt", method=method, preset=preset, settings=settings)
        for name, method, preset, settings in DETECTORS
    }


def regression(train: Recording, folder: Path) -> dict[str, Checkpoint]:
    """The teacher of LTA, and the student of a few kilobytes that regresses its score."""
    path = folder / "lta.pt"
    distill(train, path, preset="edge", settings={"teacher_epochs": TEACHER_EPOCHS, "epochs": 1})
    teacher = Checkpoint.load(teacher_path(path))
    step = teacher.step()
    settings = {"lengths": list(step.geometry.lengths), "hop": step.hop}
    scorer = StepScorer(step, folder)
    student = distill(train, folder / "r.pt", method="regression", scorers=[scorer], settings=settings)
    return dict(zip(TAUGHT, (teacher, student)))


def measured(run: str, name: str, checkpoint: Checkpoint, test: Recording) -> dict[str, Any]:
    """One detector on one run, beside random scores."""
    step = checkpoint.step()
    found = step.score(test)
    threshold = float(checkpoint.threshold["value"])
    vus = evaluate_scores(test, found.samples, found.scores, threshold, step.hop).figures["vus_pr"]
    assert vus.random is not None
    return {
        "run": run, "detector": name, "verdicts": len(found.scores), "VUS-PR": vus.value,
        "random": vus.random.mean, "random sd": vus.random.sd, "sd above random": vus.sd_above_random,
    }  # fmt: skip


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean over the runs of each detector, and on how many it is three deviations above random scores."""
    found = []
    for name in dict.fromkeys(row["detector"] for row in rows):
        own = [row for row in rows if row["detector"] == name]
        found.append({
            "detector": name, "runs": len(own), "VUS-PR": float(np.mean([row["VUS-PR"] for row in own])),
            "random": float(np.mean([row["random"] for row in own])),
            "runs 3 sd above": sum(row["sd above random"] > 3 for row in own),
            # the mean over runs spreads less than one run by the root of their number
            "sd of the mean above": float(
                np.sum([row["VUS-PR"] - row["random"] for row in own])
                / np.sqrt(np.sum([row["random sd"] ** 2 for row in own]))
            ),
        })  # fmt: skip
    return found


if __name__ == "__main__":
    main()
