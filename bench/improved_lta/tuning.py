"""What the improved LTA's score was chosen by, on machines and channels that no figure is reported on.

    python -m bench.improved_lta.tuning --data DIR [--trials 30] [--updates SET]

A search takes hundreds of scores, so the energy of the standardized matrices stands for the network's residual in it
(the ablation of `bench.improved_lta.improved` says how far that is true); the form of the matrices and the bypass are
chosen by trained students, for each data set. Labels of the tuning entities are used, as VUS-PR for each entity; those
of the reported ones are not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import click
import numpy as np
import optuna
import torch

from bench.improved_lta.entities import CHOICES, LENGTHS, PLANTS, SETS, UPDATES, Cell, Entity, Terms, entities, terms
from bench.improved_lta.measures import combined, ranking
from bench.results import save, table
from edgekd.methods.linear import PRESETS
from edgekd.methods.linear.fit import fit_linear
from edgekd.runtime.errors import RecordingError

SEED = 0
WINDOWS = {"5/10/20": (5, 10, 20), "10/30/60": (10, 30, 60), "20/60/120": (20, 60, 120)}
TERMS = {"energy": ("energy",), "Mahalanobis": ("mahalanobis",), "both": ("energy", "mahalanobis")}
PARTS = {"spacecraft": ("MSL", "SMAP"), "SMD": ("SMD",), "ASD": ("ASD",)}
EDGE = {"windows": "10/30/60", "terms": "both", "memory": 1}
BY_HAND: dict[bool, list[dict[str, Any]]] = {
    False: [EDGE, EDGE | {"windows": "5/10/20"}],
    True: [
        EDGE | {"judged": "all sensors"},
        EDGE | {"judged": "telemetry"},
        EDGE | {"judged": "telemetry", "memory": 4},
    ],
}
"""Tried first: preset `edge`, and what a coarse grid by hand, on the same entities, had ended with."""
COMPONENTS = 5  # of principal components nothing is used here


def scores(entity: Entity, lengths: tuple[int, int, int], judged: tuple[str, ...] | None) -> dict[str, Terms]:
    """Both terms on its "train" and "test" recordings, hop by hop."""
    steps = {}
    for name, preset in (("energy", "signature-energy"), ("mahalanobis", "mahalanobis")):
        config = replace(PRESETS[preset], lengths=lengths, judged=judged, signature_components=COMPONENTS)
        steps[name] = fit_linear(entity.train, config, SEED)
    found = {}
    for part, recording in (("train", entity.train), ("test", entity.test)):
        each = {name: step.score(recording) for name, step in steps.items()}
        found[part] = Terms(each["energy"].samples, {name: one.scores for name, one in each.items()})
    return found


def study(data: Path, sets: Sequence[str], trials: int) -> optuna.Study:
    """Search one kind of plant."""
    chosen = [entity for dataset in sets for entity in entities(data, dataset, True)]
    names = tuple(PLANTS[sets[0]].get("judged", ()))

    @cache
    def kept(number: int, windows: str, only: bool) -> dict[str, Terms] | None:
        try:
            return scores(chosen[number], WINDOWS[windows], names if only else None)
        except RecordingError:  # every sensor is constant in training
            return None

    def quality(trial: optuna.Trial) -> float:
        windows = trial.suggest_categorical("windows", list(WINDOWS))
        terms = TERMS[trial.suggest_categorical("terms", list(TERMS))]
        memory = trial.suggest_int("memory", 1, 12, log=True)
        only = bool(names) and trial.suggest_categorical("judged", ["all sensors", "telemetry"]) == "telemetry"
        by_set: dict[str, list[float]] = {}
        for number, entity in enumerate(chosen):
            found = kept(number, windows, only)
            if found is not None:
                figures = ranking(entity, combined(entity, found, terms, memory), WINDOWS[windows][0])
                by_set.setdefault(entity.dataset, []).append(figures["VUS-PR"])
        return float(np.mean([np.mean(each) for each in by_set.values()]))

    search = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=SEED))
    for chosen_by_hand in BY_HAND[len(names) > 0]:
        search.enqueue_trial(chosen_by_hand)
    search.optimize(quality, n_trials=trials)
    return search


def of_students(data: Path, dataset: str, column: str, variants: Iterable[str]) -> list[dict[str, Any]]:
    """VUS-PR of the students of each variant, mean over entities."""
    memory, hop = PLANTS[dataset].get("memory", 1), LENGTHS[dataset][0]
    rows = []
    for variant in variants:
        cells = [Cell(entity, variant) for entity in entities(data, dataset, True)]
        row: dict[str, Any] = {"set": dataset, column: variant}
        for title, names in (("score", ("residual", "mahalanobis")), ("network alone", ("residual",))):
            each = [ranking(cell.entity, combined(cell.entity, terms(cell), names, memory), hop) for cell in cells]
            row[title] = float(np.mean([one["VUS-PR"] for one in each]))
        rows.append(row)
    return rows


@click.command()
@click.option("--data", type=click.Path(path_type=Path), envvar="EDGEKD_DATA", required=True, help="Data folder.")
@click.option("--trials", default=30, show_default=True, help="For each kind of plant.")
@click.option(
    "--updates", type=click.Choice(SETS), multiple=True, help="No search: what more updates bring on this set."
)
def main(data: Path, trials: int, updates: tuple[str, ...]) -> None:
    """Search, print and save."""
    torch.set_num_threads(1)
    if updates:
        rows = [row for dataset in updates for row in of_students(data, dataset, "training", UPDATES)]
        print(table(rows))
        save("lta_updates", rows)
        return
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    rows = []
    kept: dict[str, Any] = {}
    for plant, sets in PARTS.items():
        search = study(data, sets, trials)
        mattered = optuna.importance.get_param_importances(
            search, evaluator=optuna.importance.PedAnovaImportanceEvaluator()
        )
        for rank, trial in enumerate(sorted(search.trials, key=lambda one: -(one.value or 0.0))[:3], 1):
            rows.append({"plant": plant, "rank": rank, "VUS-PR": trial.value, **trial.params})
        kept[plant] = {
            "importance": mattered,
            "trials": [{"VUS-PR": trial.value, **trial.params} for trial in search.trials],
        }
        print(table(rows[-3:]), mattered, sep="\n", flush=True)
    column = "matrices, components past the network"
    choices = [row for dataset in SETS for row in of_students(data, dataset, column, CHOICES)]
    print(table(choices))
    importance = [{"plant": plant, **one["importance"]} for plant, one in kept.items()]
    save(
        "lta_tuning", {"best": rows, "importance": importance, "choices": choices}, sampler="TPE", trials=trials,
        seed=SEED, studies=kept,
    )  # fmt: skip


if __name__ == "__main__":
    main()
