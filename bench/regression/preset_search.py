"""What helps a regression student of a series: each setting of its preset changed alone, on two machines.

    python -m bench.regression.preset_search --data DIR [VARIANT ...]

The teacher is the LTA teacher of each machine. SMD 1-6 took no part in the choice; it confirms it in
`bench.regression.series`. About half a minute a row, once the teacher has scored.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from bench.regression.series import SCORES, teacher_scores
from bench.results import kept, save, table
from bench.trained_students import PLANS, student
from edgekd.checkpoint import Checkpoint
from edgekd.data import load
from edgekd.distillation import teacher_path
from edgekd.evaluation.events import point_scores
from edgekd.evaluation.fidelity import fidelity
from edgekd.evaluation.vus import vus_pr
from edgekd.methods.interface import Training
from edgekd.methods.regression import PRESETS, train
from edgekd.methods.regression.scorers import StepScorer

MACHINES = ("smd-1-2", "smd-2-1")
SEEDS = (0, 1)
TAIL = 0.95  # the part of the teacher's scores above this quantile decides alarms
VARIANTS: dict[str, dict[str, Any]] = {
    "preset": {},
    "our-S3": {"student": "our-S3"},
    "our-S5": {"student": "our-S5"},
    "of windows alone": {"input": "window"},
    "no outliers": {"outlier_share": 0.0},
    "outliers .1": {"outlier_share": 0.1},
    "outliers .5": {"outlier_share": 0.5},
    "tail weight 0": {"tail_weight": 0.0},
    "tail weight 3": {"tail_weight": 3.0},
    "learning rate 1e-3": {"learning_rate": 1e-3},
    "40 epochs": {"epochs": 40, "patience": 40},
    "accumulator gru": {"accumulator": "gru"},
}


def row(name: str, variant: str, data: Path, seed: int) -> dict[str, Any]:
    """One student."""
    spec = str(data / PLANS[name].data)
    normal, test = load(spec, "train"), load(spec, "test")
    teacher = Checkpoint.load(teacher_path(student(name))).step()
    settings = {"lengths": teacher.geometry.lengths, "hop": teacher.hop, **VARIANTS[variant]}
    how = Training(seed=seed, scorers=(StepScorer(teacher, SCORES),))
    step = train(normal, replace(PRESETS["signature"], **settings), how).step
    assert test.labels is not None
    mine, theirs = step.score(test), teacher_scores(name, test)
    common, ours, others = np.intersect1d(mine.samples, theirs.samples, return_indices=True)
    one, other = mine.scores[ours], theirs.scores[others]
    near = fidelity(other, one, test.labels[common], teacher_scores(name, normal).scores)
    tail = other > np.quantile(other, TAIL)

    def vus(samples: np.ndarray, scores: np.ndarray) -> float:
        points, _ = point_scores(samples, scores.astype(np.float64), step.hop, len(test), test.starts)
        return vus_pr(test.labels, points, starts=test.starts)  # type: ignore[arg-type]

    best = vus(theirs.samples, theirs.scores)
    return {
        "recording": name, "variant": variant, "seed": seed, "parameters": step.parameters_learned,
        "VUS-PR / teacher": vus(mine.samples, mine.scores) / best, "rank correlation": near.rank_correlation,
        "log error in the tail": float(np.abs(np.log(one[tail] / other[tail])).mean()), "EMD": near.emd_pooled,
    }  # fmt: skip


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean over seeds of each variant on each machine."""
    found = []
    for variant in VARIANTS:
        for name in MACHINES:
            own = [row for row in rows if (row["recording"], row["variant"]) == (name, variant)]
            if own:
                figures = ("parameters", "VUS-PR / teacher", "rank correlation", "log error in the tail", "EMD")
                mean = {key: float(np.mean([row[key] for row in own])) for key in figures}
                found.append({"variant": variant, "recording": name, "seeds": len(own), **mean})
    return found


@click.command()
@click.option("--data", type=click.Path(path_type=Path), envvar="EDGEKD_DATA", required=True, help="Data folder.")
@click.option("--seed", "seeds", type=int, multiple=True, default=SEEDS)
@click.argument("variants", nargs=-1)
def main(data: Path, seeds: tuple[int, ...], variants: tuple[str, ...]) -> None:
    """Measure, print and save; rows that are not measured again stay as they were."""
    torch.set_num_threads(1)
    rows = {(row["recording"], row["variant"], row["seed"]): row for row in kept("regression_choice") or []}
    for variant in variants or VARIANTS:
        for name in MACHINES:
            for seed in seeds:
                rows[name, variant, seed] = row(name, variant, data, seed)
        print(table(summary([row for row in rows.values() if row["variant"] == variant])), flush=True)
        found = list(rows.values())
        save("regression_choice", found, summary=summary(found))


if __name__ == "__main__":
    main()
