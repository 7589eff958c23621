"""Whether the time of day is worth knowing: the committee's level term with the day's course as its context.

    python -m bench.detection.daily --data DIR

SMD and ASD, whose test part goes on where the training part ends. Of each feature of the level term the day's course,
harmonics of one day fitted by ridge regression to the training part, is taken away before it is whitened. The committee
is the mean of its terms' log scores by their training spread, without cross-fitting, with and without. VUS-PR, mean
over entities; no harmonics is the term as it is.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from bench.detection.innovations import SETS, Entity, vus_of
from bench.results import rounded, save, table
from edgekd.blocks.innovations import FLOOR, shrunk_root
from edgekd.data import Recording
from edgekd.evaluation.events import SECONDS_PER_DAY
from edgekd.methods.linear.config import PRESETS
from edgekd.methods.linear.innovations import SPREAD_FLOOR, TINY, InnovationsStep, averaged, fit_innovations

HARMONICS = (0, 1, 2, 4)
RIDGE = 1e-3  # a sample


def course(samples: np.ndarray, day: float, harmonics: int) -> np.ndarray:
    """Samples (V,) since the recording's start -> what a day's course is made of, (V, 1 + 2 harmonics)."""
    angle = 2 * np.pi * samples / day
    waves = [wave(k * angle) for k in range(1, harmonics + 1) for wave in (np.sin, np.cos)]
    return np.stack([np.ones_like(angle), *waves], 1)


@torch.inference_mode()
def seen(step: InnovationsStep, recording: Recording) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Ends (V,), features of the level term (V, j, 5), and each term's log energy (V,), of every verdict."""
    ends, features, logs = [], [], {name: list[np.ndarray]() for name in step.terms}
    levels, live = step.terms["levels"], torch.ones(step.m)
    for some, windows in step.windows(torch.from_numpy(recording.values)):
        ends.append(some.numpy())
        features.append(levels.features(windows[..., levels.judged]).double().numpy())  # type: ignore[operator, index]
        for name, term in step.terms.items():
            logs[name].append(term(windows, live)[0].clamp_min(TINY).log().numpy())
    return np.concatenate(ends), np.concatenate(features), {name: np.concatenate(log) for name, log in logs.items()}


def without_course(
    train: np.ndarray, before: np.ndarray, test: np.ndarray, after: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Features (V, j, 5) and courses (V, h) of both parts -> log energies (V,) of what the course leaves of them."""
    penalty = RIDGE * len(before) * np.eye(before.shape[1])
    penalty[0, 0] = 0.0
    weights = np.linalg.solve(before.T @ before + penalty, before.T @ train.reshape(len(train), -1))
    left = [x - (c @ weights).reshape(x.shape) for x, c in ((train, before), (test, after))]
    deviation = np.maximum(left[0].std(0), FLOOR)
    standardized = left[0] / deviation
    correlation = np.einsum("njf,njg->jfg", standardized, standardized) / len(train)
    root = shrunk_root(torch.from_numpy(correlation), 0.05).numpy()
    first, second = ((np.einsum("njf,jfg->njg", x / deviation, root) ** 2).mean((1, 2)) for x in left)
    return np.log(np.maximum(first, TINY)), np.log(np.maximum(second, TINY))


def joined(train: dict[str, np.ndarray], test: dict[str, np.ndarray]) -> np.ndarray:
    """Sum of the terms' averaged log scores, each in its training spread, (V,)."""
    total = np.zeros(len(next(iter(test.values()))))
    for name in train:
        usual, now = (averaged(part[name], float(part[name][0])) for part in (train, test))
        total += (now - usual.mean()) / max(usual.std(), SPREAD_FLOOR)
    return total


def measured(entity: Entity) -> dict[str, float]:
    """VUS-PR of the level term and of the committee with each number of harmonics."""
    step, _ = fit_innovations(entity.train, replace(PRESETS["innovations"], lengths=(10, 30, 60), hop=entity.hop))
    before, train, logs = seen(step, entity.train)
    after, test, test_logs = seen(step, entity.test)
    day, found = SECONDS_PER_DAY / entity.train.period_s, {}
    for harmonics in HARMONICS:
        courses = course(before, day, harmonics), course(after + len(entity.train), day, harmonics)
        usual, now = without_course(train, courses[0], test, courses[1])
        levels = {"levels": usual.astype(np.float32)}, {"levels": now.astype(np.float32)}
        alone = averaged(levels[1]["levels"], float(levels[1]["levels"][0]))
        found[f"S, {harmonics} harmonics"] = vus_of(entity.test, after - 1, alone, step.hop)
        both = joined(logs | levels[0], test_logs | levels[1])
        found[f"committee, {harmonics}"] = vus_of(entity.test, after - 1, both, step.hop)
    return found


@click.command()
@click.option("--data", type=click.Path(path_type=Path), envvar="EDGEKD_DATA", required=True, help="Data folder.")
def main(data: Path) -> None:
    """Measure, print and save."""
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for name in ("SMD", "ASD"):
        rows += [{"set": name, "part": one.part, "entity": one.name, **measured(one)} for one in SETS[name](data)]
    means = []
    for key in dict.fromkeys((row["set"], row["part"]) for row in rows):
        mine = [row for row in rows if (row["set"], row["part"]) == key]
        figures = {name: float(np.mean([row[name] for row in mine])) for name in list(mine[0])[3:]}
        means.append({"set": key[0], "part": key[1], "entities": len(mine), **figures})
    print(table(means))
    save("daily", rounded({"means": means, "entities": rows}))


if __name__ == "__main__":
    main()
