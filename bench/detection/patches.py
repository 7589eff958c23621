"""PaAno made causal as a teacher, its student, and the student's encoder trained alone, beside the committee.

    python -m bench.detection.patches --data DIR [--set SET] [--part PART]

The entities and the protocol of `bench.detection.innovations`, whose figures stand beside; the figure is VUS-PR, mean
over the entities of a set. Trainings that are done are kept in the result file.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from bench.detection.innovations import COMMITTEE, Entity
from bench.detection.lta_on_innovations import PUBLIC, entities, figures
from bench.results import WORK, kept, rounded, save, table
from edgekd.checkpoint import Checkpoint
from edgekd.distillation import distill, teacher_path
from edgekd.methods.patches.config import PatchesConfig

RESULT = "patches"
ORDER = ("ASD", "SKAB", "MSL", "SMD", "SMAP")  # short recordings first
DETECTORS = ("teacher", "student", "alone")
SEED = 0


def trained(entity: Entity) -> dict[str, Any]:
    """Figures of every detector on one entity."""
    path = WORK / RESULT / f"{entity.name.replace('/', '-')}.pt"
    path.parent.mkdir(parents=True, exist_ok=True)
    settings = {"hop": entity.hop, "judged": entity.judged}
    alone = {**settings, "detector": "teacher", "teacher_width": PatchesConfig().width}
    begun = time.monotonic()
    student = distill(entity.train, path, method="patches", settings=settings, seed=SEED).step()
    steps = {
        "teacher": Checkpoint.load(teacher_path(path)).step(),
        "student": student,
        "alone": distill(entity.train, path.with_suffix(".alone.pt"), method="patches", settings=alone).step(),
    }
    told = {name: figures(step, entity.test) for name, step in steps.items()}
    return {**told, "parameters": student.parameters_learned, "seconds": time.monotonic() - begun}


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row a set and part, and the mean of the confirm parts that are whole."""
    known = {(row["set"], row["part"], row["entity"]): row[COMMITTEE] for row in kept("innovations")["entities"]}
    found: list[dict[str, Any]] = []
    for part in ("dev", "confirm"):
        for name in PUBLIC:
            mine = [row for row in rows if (row["set"], row["part"]) == (name, part)]
            if mine:
                counts = {"of": sum(at[:2] == (name, part) for at in known), "entities": len(mine)}
                committee = float(np.mean([known[name, part, row["entity"]] for row in mine]))
                found.append({"set": name, "part": part, **counts, **_means(mine), "committee": committee})
    whole = [row for row in found if row["part"] == "confirm" and row["of"] == row["entities"]]
    if whole:
        counts = {key: sum(row[key] for row in whole) for key in ("of", "entities")}
        keys = [key for key in whole[0] if key not in ("set", "part", *counts)]
        means = {key: float(np.mean([row[key] for row in whole])) for key in keys}
        found.append({"set": f"mean of {len(whole)} whole sets", "part": "confirm", **counts, **means})
    return found


def _means(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Of teacher and student, over entities."""
    vus = {kind: float(np.mean([row[kind]["vus_pr"] for row in rows])) for kind in DETECTORS}
    return vus | {f"{kind}, recall": float(np.mean([row[kind]["recall"] for row in rows])) for kind in DETECTORS}


def keep(rows: list[dict[str, Any]]) -> None:
    """Write what there is so far."""
    save(RESULT, rounded({"means": summary(rows), "trainings": rows}), seed=SEED)


@click.command()
@click.option("--data", type=click.Path(path_type=Path), envvar="EDGEKD_DATA", required=True, help="Data folder.")
@click.option("--set", "sets", multiple=True, type=click.Choice(PUBLIC), help="Only this one; may be repeated.")
@click.option("--part", type=click.Choice(["dev", "confirm"]), default="confirm", show_default=True)
def main(data: Path, sets: tuple[str, ...], part: str) -> None:
    """Train what is missing, print and save; with nothing missing, the means are made again."""
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = kept(RESULT).get("trainings", [])
    for entity in entities(data, sets or ORDER, (part,)):
        key = {"set": entity.set, "part": entity.part, "entity": entity.name}
        if any(row.items() >= key.items() for row in rows):
            continue
        rows.append({**key, **trained(entity)})
        print(rows[-1], flush=True)
        keep(rows)
    keep(rows)
    print(table(summary(rows)))


if __name__ == "__main__":
    main()
