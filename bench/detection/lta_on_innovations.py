"""LTA shown innovations, against LTA shown samples: the same student, seeds and data; and joined with the committee.

    python -m bench.detection.lta_on_innovations --data DIR [SET ...]

`edge`, undistilled, so that seeds are affordable. The figure is VUS-PR, mean over the entities of a set; the spread is
that of the set's mean over seeds. Trainings that are done are kept, and so are their scores.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import click
import numpy as np
import torch

from bench.results import WORK, digest, rounded, save, table
from edgekd.blocks.step import StepModule
from edgekd.blocks.threshold import FIT, parts
from edgekd.checkpoint import Checkpoint
from edgekd.data import load
from edgekd.distillation import distill
from edgekd.evaluation.protocols import protocols
from edgekd.methods.lta.joint import joined
from edgekd.methods.lta.step import LTAStep

KEPT = WORK / "lta-on-innovations"
SEEDS = (0, 1, 2)
INPUTS = ("innovations", "joint", "samples")
"""What is shown; "joint" is the student of innovations and the committee as one detector."""
SETTINGS = {"distill": False}
SETS: dict[str, tuple[str, ...]] = {
    "ASD": tuple(f"asd/omi-{k}.npz" for k in (2, 4, 5, 6, 7, 9)),
    "SMD dev": tuple(f"smd/machine-1-{k}.npz" for k in (2, 6)),
    "SMD confirm": tuple(f"smd/machine-2-{k}.npz" for k in (1, 4)),
}


@dataclass(frozen=True)
class Cell:
    """One training."""

    set: str
    data: str
    input: str
    seed: int

    @property
    def path(self) -> Path:
        about = [self.data, self.input, self.seed, SETTINGS]
        return KEPT / f"{Path(self.data).stem}-{self.input}-{self.seed}-{digest(about)}.npz"


def cells(sets: tuple[str, ...]) -> Iterator[Cell]:
    """Seed by seed, so that what is done of an unfinished run is balanced."""
    for name in sets or SETS:
        for seed in SEEDS:
            for data in SETS[name]:
                for kind in INPUTS:
                    yield Cell(name, data, kind, seed)


def run(cell: Cell, folder: Path) -> None:
    """Train, score, and keep scores and figures."""
    spec = str(folder / cell.data)
    begun = time.monotonic()
    train, test = load(spec, "train"), load(spec, "test")
    if cell.input == "joint":
        student = replace(cell, input="innovations").path.with_suffix(".pt")
        step: StepModule = joined(train, cast(LTAStep, Checkpoint.load(student).step()))
    else:
        settings = {**SETTINGS, "input": cell.input}
        step = distill(train, cell.path.with_suffix(".pt"), preset="edge", settings=settings, seed=cell.seed).step()
    normal, found = step.score(train), step.score(test)
    figures = protocols(test, found.samples, found.scores.astype(np.float64), step.hop)
    np.savez(
        cell.path,
        normal=normal.scores,
        fitted=parts(train)[normal.samples] == FIT,
        samples=found.samples,
        scores=found.scores,
        hop=step.hop,
        vus_pr=figures["vus_pr"],
        recall=figures["event_recall_at_1_per_day"],
        seconds=time.monotonic() - begun,
    )
    print(f"{cell.path.stem}: VUS-PR {figures['vus_pr']:.3f}, {time.monotonic() - begun:.0f} s", flush=True)


def summary() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(one row a training that is done, one row a set and input)."""
    rows, means = [], []
    for cell in cells(()):
        if cell.path.exists():
            with np.load(cell.path) as kept:
                facts = {name: float(kept[name]) for name in ("vus_pr", "recall", "seconds")}
            entity = Path(cell.data).stem
            rows.append({"set": cell.set, "entity": entity, "input": cell.input, "seed": cell.seed, **facts})
    for name, entities in SETS.items():
        for kind in INPUTS:
            seeds = []
            for seed in SEEDS:
                one = [row for row in rows if (row["set"], row["input"], row["seed"]) == (name, kind, seed)]
                if len(one) == len(entities):
                    seeds.append([np.mean([row[key] for row in one]) for key in ("vus_pr", "recall")])
            if seeds:
                mean, spread = np.mean(seeds, 0), np.std(seeds, 0, ddof=1) if len(seeds) > 1 else (None, None)
                means.append(
                    {
                        "set": name, "input": kind, "entities": len(entities), "seeds": len(seeds),
                        "VUS-PR": mean[0], "± over seeds": spread[0], "event recall at 1 false alarm a day": mean[1],
                    }
                )  # fmt: skip
    return rows, means


@click.command()
@click.option("--data", type=click.Path(path_type=Path), envvar="EDGEKD_DATA", required=True, help="Data folder.")
@click.argument("sets", nargs=-1, type=click.Choice(list(SETS)))
def main(data: Path, sets: tuple[str, ...]) -> None:
    """Train what is missing, print and save."""
    torch.set_num_threads(1)
    KEPT.mkdir(parents=True, exist_ok=True)
    for cell in cells(sets):
        if not cell.path.exists():
            run(cell, data)
    rows, means = summary()
    if means:
        print(table(means))
    save("lta_on_innovations", rounded({"trainings": rows, "means": means}), preset="edge", settings=SETTINGS)


if __name__ == "__main__":
    main()
