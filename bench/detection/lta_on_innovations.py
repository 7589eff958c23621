"""LTA shown innovations, against LTA shown samples; alone, and joined with the committee; distilled, and not.

    python -m bench.detection.lta_on_innovations --data DIR [--seeds N] [--set SET] [--part PART] [INPUT ...]

`edge`, with the entities and the protocol of `bench.detection.innovations`. The figure is VUS-PR, mean over the
entities of a set; the spread is that of the set's mean over seeds. Trainings that are done are kept in the result file.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import click
import numpy as np
import torch

from bench.detection.innovations import COMMITTEE, ENSEMBLE, SETS, Entity, paired
from bench.results import WORK, kept, rounded, save, table
from edgekd.blocks.step import StepModule
from edgekd.data import Recording
from edgekd.distillation import distill
from edgekd.evaluation.protocols import protocols
from edgekd.methods.lta.joint import joined
from edgekd.methods.lta.step import LTAStep
from edgekd.runtime.errors import UsageError

RESULT = "lta_on_innovations"
INPUTS: dict[str, dict[str, Any]] = {
    "innovations": {"input": "innovations", "distill": False},
    "samples": {"distill": False},
}
JOINT = "joint"
"""The student of innovations and the committee as one detector."""
DEFAULT = "joint, distilled"
"""Preset `joint` as it is: the same in fewer epochs, with a teacher."""
TAUGHT = "taught by the committee"
"""A student of `regression` on innovations, whose teacher is the committee."""
PUBLIC = ("ASD", "SKAB", "MSL", "SMAP", "SMD")


def entities(data: Path, sets: tuple[str, ...], parts: tuple[str, ...]) -> Iterator[Entity]:
    """Those that can be judged."""
    for name in sets or PUBLIC:
        for entity in SETS[name](data):
            labels = entity.test.labels
            known = labels is not None and labels.any() and not labels.all()
            if known and entity.part in (parts or (entity.part,)):
                yield entity


def figures(step: StepModule, test: Recording) -> dict[str, float]:
    """VUS-PR, and the events found at one false alarm a day."""
    found = step.score(test)
    told = protocols(test, found.samples, found.scores.astype(np.float64), step.hop)
    return {"vus_pr": told["vus_pr"], "recall": told["event_recall_at_1_per_day"]}


def trained(entity: Entity, name: str, seed: int) -> Iterator[tuple[str, dict[str, float]]]:
    """Train a student; its figures and, of innovations, those of it and the committee joined."""
    judged = {} if entity.judged is None else {"judged": entity.judged}
    begun = time.monotonic()
    label = name.replace(", ", "-").replace(" ", "-")
    path = WORK / RESULT / f"{entity.name.replace('/', '-')}-{label}-{seed}.pt"
    path.parent.mkdir(parents=True, exist_ok=True)
    if name == TAUGHT:
        committee = path.with_name(f"{path.stem}-teacher.pt")
        distill(entity.train, committee, preset="innovations", settings={**judged, "slow": False})
        how: dict[str, Any] = {"method": "regression", "settings": {"input": "innovations"}, "teacher": committee}
    else:
        how = {"preset": "joint" if name == DEFAULT else "edge", "settings": {**INPUTS.get(name, {}), **judged}}
    student = distill(entity.train, path, seed=seed, **how).step()
    yield name, {**figures(student, entity.test), "seconds": time.monotonic() - begun}
    if name == "innovations":
        joint, _ = joined(entity.train, cast(LTAStep, student))
        yield JOINT, {**figures(joint, entity.test), "seconds": time.monotonic() - begun}


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row a set, part and detector, with its spread over seeds; and the mean of the five sets' confirm parts."""
    found = []
    names = [*INPUTS, JOINT, DEFAULT, TAUGHT]
    for name in PUBLIC:
        for part in ("dev", "confirm"):
            for detector in names:
                mine = [row for row in rows if (row["set"], row["part"], row["detector"]) == (name, part, detector)]
                found += [{"set": name, "part": part, "detector": detector, **_over_seeds(mine)}] if mine else []
    for detector in names:
        confirm = [row for row in found if (row["part"], row["detector"]) == ("confirm", detector)]
        if len(confirm) == len(PUBLIC):
            means = {key: float(np.mean([row[key] for row in confirm])) for key in ("VUS-PR", "recall at 1 a day")}
            found.append({"set": "mean of five", "part": "confirm", "detector": detector, **means})
    return found


def compared(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The joined ones, mean over seeds, against the committee alone, the linear ensemble, and H."""
    known = {(row["set"], row["entity"]): row for row in kept("innovations").get("entities", [])}
    found = []
    for name in (JOINT, DEFAULT):
        merged = []
        for at, others in known.items():
            mine = [row["vus_pr"] for row in rows if (row["set"], row["entity"], row["detector"]) == (*at, name)]
            merged += [{**others, name: float(np.mean(mine))}] if mine else []
        for other in (COMMITTEE, ENSEMBLE, "H"):
            if row := paired(merged, other, name):
                found.append(row)
    return found


def _over_seeds(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over entities, of the seeds that have as many of them as any."""
    seeds = {seed: [row for row in rows if row["seed"] == seed] for seed in {row["seed"] for row in rows}}
    most = max(map(len, seeds.values()))
    means = [
        [np.mean([row[key] for row in of_seed]) for key in ("vus_pr", "recall")]
        for of_seed in seeds.values()
        if len(of_seed) == most
    ]
    vus, recall = np.mean(means, 0)
    spread = float(np.std(means, 0, ddof=1)[0]) if len(means) > 1 else None
    return {
        "entities": most, "seeds": len(means), "VUS-PR": float(vus), "± over seeds": spread,
        "recall at 1 a day": float(recall),
    }  # fmt: skip


def keep(rows: list[dict[str, Any]]) -> None:
    """Write what there is so far."""
    figures = {"means": summary(rows), "paired": compared(rows), "trainings": rows}
    save(RESULT, rounded(figures), preset="edge", inputs=INPUTS)


@click.command()
@click.option("--data", type=click.Path(path_type=Path), envvar="EDGEKD_DATA", required=True, help="Data folder.")
@click.option("--seeds", default=3, show_default=True)
@click.option("--set", "sets", multiple=True, type=click.Choice(PUBLIC), help="Only this one; may be repeated.")
@click.option("--part", "parts", multiple=True, type=click.Choice(["dev", "confirm"]), help="Only this part.")
@click.argument("inputs", nargs=-1, type=click.Choice([*INPUTS, DEFAULT, TAUGHT]))
def main(data: Path, seeds: int, sets: tuple[str, ...], parts: tuple[str, ...], inputs: tuple[str, ...]) -> None:
    """Train what is missing, print and save."""
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = kept(RESULT).get("trainings", [])
    for seed in range(seeds):
        for name in inputs or INPUTS:
            for entity in entities(data, sets, parts):
                key = {"set": entity.set, "part": entity.part, "entity": entity.name, "seed": seed}
                if any(row.items() >= {**key, "detector": name}.items() for row in rows):
                    continue
                try:
                    for detector, told in trained(entity, name, seed):
                        rows.append({**key, "detector": detector, **told})
                        print(entity.name, detector, seed, {k: round(v, 3) for k, v in told.items()}, flush=True)
                except UsageError as error:  # a teacher of one score
                    print(entity.name, name, error, flush=True)
                keep(rows)
    if rows:
        keep(rows)
        print(table(summary(rows)))


if __name__ == "__main__":
    main()
