"""The Long-Term Accumulator against the same student without it.

    python -m bench.detection.accumulator --data DIR

On the simulated plant with two faults that no short window shows (three seeds), on SMD machine-1-2 and on SKAB (two
seeds, capped epochs). Both scores of the student are told apart: the residual, which the accumulator can change, and
the combined score, most of whose worth may come from the Mahalanobis term.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np

from bench.results import save, table
from bench.trained_students import PLANS, simulated, student
from edgekd.blocks.step import StepModule
from edgekd.checkpoint import Checkpoint
from edgekd.data import Recording, load
from edgekd.evaluation.report import evaluate_scores

SEEDS = {"sim": 3, "smd": 2, "skab": 2}


def figures(step: StepModule, test: Recording, threshold: float) -> dict[str, float]:
    """VUS-PR, AUC-PR and event recall of the batch scores."""
    scores = step.score(test)
    report = evaluate_scores(test, scores.samples, scores.scores, threshold, step.hop)
    return {key: float(report.figures[key].value or 0.0) for key in ("vus_pr", "auc_pr", "event_recall")}


def residual_alone(step: StepModule) -> StepModule:
    """The same student without its Mahalanobis term."""
    step.mahalanobis = step.combine = None  # type: ignore[assignment]
    return step


@click.command()
@click.option("--data", type=click.Path(path_type=Path), envvar="EDGEKD_DATA", required=True, help="Data folder.")
def main(data: Path) -> None:
    """Measure, print and save."""
    rows: list[dict[str, Any]] = []
    for name, seeds in SEEDS.items():
        tests = {"sim": str(simulated()[1])}
        test = load(tests.get(name) or str(data / PLANS[f"{name}-lta-0"].data), "test")
        for kind in ("lta", "none"):
            found = []
            for seed in range(seeds):
                path = student(f"{name}-{kind}-{seed}")
                if not path.exists():
                    click.echo(f"{path.stem}: not trained yet; python -m bench.trained_students {path.stem}", err=True)
                    continue
                checkpoint = Checkpoint.load(path)
                threshold = checkpoint.threshold["value"]
                both = figures(checkpoint.step(), test, threshold)
                alone = figures(residual_alone(checkpoint.step()), test, threshold)
                found.append({**both, "residual_vus_pr": alone["vus_pr"], "residual_auc_pr": alone["auc_pr"]})
            if found:
                spread = {
                    key: f"{np.mean([one[key] for one in found]):.3f} ± {np.std([one[key] for one in found]):.3f}"
                    for key in found[0]
                }
                rows.append({"recording": name, "accumulator": kind, "seeds": len(found), **spread})
    print(table(rows))
    save("accumulator", rows)


if __name__ == "__main__":
    main()
