"""Every SKAB run by its usual protocol: trained on the run's own first 400 rows, scored on the whole run.

    python -m bench.skab --data DIR

One run has about a hundred verdicts at hop 10, so that random scores spread by .05 of VUS-PR: a single run decides
little, seventeen do.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np

from bench.results import save, table
from edgekd.data import load
from edgekd.distillation import distill
from edgekd.evaluation.report import evaluate_scores

TRAINED_ON = 400
# (name, method, preset, settings); undistilled, since 400 rows teach a teacher nothing either
DETECTORS: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    ("edge", "lta", "edge", {"distill": False}),
    *((f"linear {p}", "linear", p, {}) for p in ("signature-energy", "mahalanobis", "sample-pca", "ensemble")),
)


@click.command()
@click.option("--data", type=click.Path(path_type=Path), envvar="EDGEKD_DATA", required=True, help="Data folder.")
def main(data: Path) -> None:
    """Measure, print and save."""
    archive = data / "skab" / "SKAB.npz"
    runs = ["/".join(str(run).rsplit("_", 1)) for run in np.load(archive)["files"]]
    rows = []
    for run in runs:
        spec = f"{archive}#{run}@{TRAINED_ON}"
        train, test = load(spec, "train"), load(spec, "test")
        for name, method, preset, settings in DETECTORS:
            with TemporaryDirectory() as folder:
                checkpoint = distill(train, Path(folder) / "s.pt", method=method, preset=preset, settings=settings)
            step = checkpoint.step()
            found = step.score(test)
            threshold = float(checkpoint.threshold["value"])
            vus = evaluate_scores(test, found.samples, found.scores, threshold, step.hop).figures["vus_pr"]
            assert vus.random is not None
            rows.append({
                "run": run, "detector": name, "verdicts": len(found.scores), "VUS-PR": vus.value,
                "random": vus.random.mean, "random sd": vus.random.sd, "sd above random": vus.sd_above_random,
            })  # fmt: skip
            print(table(rows[-1:]), flush=True)
    print(table(summary(rows)))
    save("skab", rows, summary=summary(rows), trained_on=TRAINED_ON, seed=0)


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
