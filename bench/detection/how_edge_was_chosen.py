"""What preset `edge` was chosen by: one setting changed at a time, on machines that the first study did not use.

    python -m bench.detection.how_edge_was_chosen --data DIR [--machine 1-7 ...] [--epochs 4]

Undistilled students, few epochs, one seed: differences below about .03 are not findings. The score rule and the
Mahalanobis term are compared on the same trained student.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import torch

from bench.results import save, table
from edgekd.data import Recording, load
from edgekd.evaluation.report import evaluate_scores
from edgekd.methods.interface import Training
from edgekd.methods.lta import PRESETS, LTAStep, train

VARIANTS: dict[str, dict[str, Any]] = {
    "edge": {},
    "windowed student": {"recurrence": "windowed", "attention_steps": 5, "channels": 16},
    "z-scored samples, global scale": {"scaling": "zscore", "standardize": "global"},
    "raw matrices": {"standardize": "none"},
    "predict the next matrices": {"target": "next"},
    "8 channels": {"channels": 8},
    "score: top 1 % of residuals": {"score": "top"},
    "no accumulator": {"accumulator": "none"},
}


def quality(step: LTAStep, test: Recording) -> dict[str, float]:
    """Threshold-free figures."""
    scores = step.score(test)
    report = evaluate_scores(test, scores.samples, scores.scores, float(scores.scores.max()), step.hop, chance_runs=2)
    return {"VUS-PR": float(report.figures["vus_pr"].value or 0), "AUC-PR": float(report.figures["auc_pr"].value or 0)}


@click.command()
@click.option("--data", type=click.Path(path_type=Path), envvar="EDGEKD_DATA", required=True, help="Data folder.")
@click.option("--machine", "machines", multiple=True, default=("1-7", "2-3"), help="SMD machine.")
@click.option("--variant", "names", multiple=True, type=click.Choice(list(VARIANTS)), default=tuple(VARIANTS))
@click.option("--epochs", default=4)
def main(data: Path, machines: tuple[str, ...], names: tuple[str, ...], epochs: int) -> None:
    """Measure, print and save."""
    rows = []
    for machine in machines:
        spec = str(data / f"smd/machine-{machine}.npz")
        recording, test = load(spec, "train"), load(spec, "test")
        for name in names:
            config = replace(PRESETS["edge"], distill=False, epochs=epochs, **VARIANTS[name])
            started = time.monotonic()
            step = train(recording, config, Training(seed=0)).step
            assert isinstance(step, LTAStep)
            seconds = time.monotonic() - started
            both = quality(step, test)
            step.mahalanobis = step.combine = None
            alone = quality(step, test)
            state = sum(4 * torch.Size(shape).numel() for shape in step.state_shapes().values())
            rows.append({
                "machine": machine, "variant": name, **both, "residual alone VUS-PR": alone["VUS-PR"],
                "residual alone AUC-PR": alone["AUC-PR"], "state kB": round(state / 1024), "seconds": round(seconds),
            })  # fmt: skip
            print(table(rows[-1:]), flush=True)
    print(table(rows))
    save("edge_choice", rows, epochs=epochs, seed=0)


if __name__ == "__main__":
    main()
