"""The committee of innovations, each of its terms, and the linear ensemble, on public sets and the simulated plant.

    python -m bench.detection.innovations --data DIR [SET ...]

VUS-PR, mean over entities, by the protocol of the study that the committee was chosen in: dev entities were looked at
when it was chosen, confirm entities were not. Of MSL and SMAP the telemetry is judged, commands are context.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import nn

from bench.results import kept, rounded, save, table
from edgekd.blocks.forecast import Stretch
from edgekd.blocks.innovations import AllLags
from edgekd.data import Recording, load
from edgekd.evaluation.events import point_scores
from edgekd.evaluation.metrics import vus_pr
from edgekd.methods.linear.config import PRESETS
from edgekd.methods.linear.fit import fit_linear
from edgekd.methods.linear.innovations import InnovationsStep, averaged, fit_innovations
from edgekd.simulation.simulate import simulate

TRAINED_ON = 400  # rows of a SKAB run
TERMS = {"own_lags": "A", "own_ahead": "H", "levels": "S", "all_lags": "V"}
COMMITTEE, ENSEMBLE = "A + H + S + V", "linear ensemble"
SEEDS = {"dev": (1, 2, 3), "confirm": tuple(range(4, 11))}
RESAMPLES = 10_000


@dataclass(frozen=True)
class Entity:
    """One machine, channel, run or seed."""

    set: str
    part: str
    """dev or confirm."""
    name: str
    train: Recording
    test: Recording
    hop: int
    judged: tuple[str, ...] | None = None


def smd(folder: Path) -> Iterator[Entity]:
    for path in sorted((folder / "smd").glob("machine-*.npz")):
        part = "dev" if path.stem.startswith("machine-1") else "confirm"
        yield Entity("SMD", part, path.stem, load(str(path), "train"), load(str(path), "test"), 10)


def asd(folder: Path) -> Iterator[Entity]:
    for k, part in ((2, "dev"), (4, "dev"), (5, "dev"), (6, "confirm"), (7, "confirm"), (9, "confirm")):
        path = folder / "asd" / f"omi-{k}.npz"
        yield Entity("ASD", part, path.stem, load(str(path), "train"), load(str(path), "test"), 5)


def skab(folder: Path) -> Iterator[Entity]:
    archive = folder / "skab" / "SKAB.npz"
    for number, run in enumerate(np.load(archive)["files"]):
        name = "/".join(str(run).rsplit("_", 1))
        spec = f"{archive}#{name}@{TRAINED_ON}"
        yield Entity("SKAB", _alternating(number), name, load(spec, "train"), load(spec, "test"), 10)


def spacecraft(which: str) -> Callable[[Path], Iterator[Entity]]:
    def entities(folder: Path) -> Iterator[Entity]:
        archive = folder / "smap_msl" / f"{which}.npz"
        for number, channel in enumerate(np.load(archive)["channels"]):
            spec = f"{archive}#{channel}"
            train, test = load(spec, "train"), load(spec, "test")
            yield Entity(which, _alternating(number), str(channel), train, test, 10, ("telemetry",))

    return entities


def plant(folder: Path) -> Iterator[Entity]:
    for part, seeds in SEEDS.items():
        for seed in seeds:
            train = simulate(20_000, 12, seed, faults=()).recording
            yield Entity("simulated", part, f"seed {seed}", train, simulate(8_000, 12, seed + 100).recording, 10)


def _alternating(number: int) -> str:
    return "confirm" if number % 2 else "dev"


SETS: dict[str, Callable[[Path], Iterator[Entity]]] = {
    "SMD": smd, "ASD": asd, "SKAB": skab, "MSL": spacecraft("MSL"), "SMAP": spacecraft("SMAP"), "simulated": plant,
}  # fmt: skip


def measured(entity: Entity) -> dict[str, float]:
    """VUS-PR of every detector on one entity."""
    test = entity.test
    assert test.labels is not None
    wide = replace(PRESETS["innovations"], lengths=(10, 30, 60), hop=entity.hop, judged=entity.judged)
    step, _ = fit_innovations(entity.train, wide)
    found = {COMMITTEE: vus_of(test, *_scores(step, test), step.hop)}
    for name, letter in TERMS.items():
        if name in step.terms:
            found[letter] = vus_of(test, *_term_scores(step, test, step.terms[name]), step.hop)
    if "V" not in found:  # one sensor's neighbors are context to the committee, but the study measured them
        found["V"] = vus_of(test, *_term_scores(step, test, _all_lags(step, entity.train)), step.hop)
    lengths = (5, 10, 20) if entity.hop == 5 else (10, 30, 60)
    plain = replace(PRESETS["ensemble"], lengths=lengths, judged=entity.judged)
    try:
        ensemble = fit_linear(entity.train, plain, seed=0)
        found[ENSEMBLE] = vus_of(test, *_scores(ensemble, test), ensemble.hop)
    except ValueError as error:  # too little to fit principal components to
        print(f"{entity.name}: {ENSEMBLE}: {error}")
    return found


def _scores(step: Any, test: Recording) -> tuple[np.ndarray, np.ndarray]:
    found = step.score(test)
    return found.samples, found.scores


def _all_lags(step: InnovationsStep, train: Recording) -> AllLags:
    """The term of all sensors' lags, fitted to what the committee was fitted to."""
    term = AllLags(step.judged, step.m)
    shown = [step.all_shown(torch.from_numpy(train.values[start:end])) for start, end in step.entities(train)]
    term.fit([Stretch(samples.double(), torch.ones(len(samples), dtype=torch.bool)) for samples in shown])
    return term


@torch.inference_mode()
def _term_scores(step: InnovationsStep, test: Recording, term: nn.Module) -> tuple[np.ndarray, np.ndarray]:
    """Averaged log energy of one term at every verdict of a recording of one entity."""
    live = torch.ones(step.m)
    ends, energies = [], []
    for some, windows in step.windows(torch.from_numpy(test.values)):
        ends.append(some.numpy())
        energies.append(term(windows, live)[0].clamp_min(1e-12).log().numpy())
    logs = np.concatenate(energies)
    return np.concatenate(ends) - 1, averaged(logs, float(logs[0]))


def vus_of(test: Recording, samples: np.ndarray, scores: np.ndarray, hop: int) -> float:
    """VUS-PR of verdicts (V,) at `samples` (V,), a hop apart."""
    assert test.labels is not None
    points, _ = point_scores(samples, scores.astype(np.float64), hop, len(test))
    return float(vus_pr(test.labels, points))


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row a set and part, mean over its entities; and the mean over the confirm parts of the five public sets."""
    detectors = (COMMITTEE, *TERMS.values(), ENSEMBLE)
    found = []
    for name in SETS:
        for part in ("dev", "confirm"):
            of_part = [row for row in rows if (row["set"], row["part"]) == (name, part)]
            if of_part:
                means = {
                    detector: float(np.mean(values))
                    for detector in detectors
                    if (values := [row[detector] for row in of_part if detector in row])
                }
                found.append({"set": name, "part": part, "entities": len(of_part), **means})
    public = [row for row in found if row["part"] == "confirm" and row["set"] != "simulated"]
    if len(public) == len(SETS) - 1:
        means = {
            detector: float(np.mean([row[detector] for row in public]))
            for detector in detectors
            if all(detector in row for row in public)
        }
        entities = sum(row["entities"] for row in public)
        found.append({"set": "mean of five", "part": "confirm", "entities": entities, **means})
    return found


def paired(rows: list[dict[str, Any]], other: str, one: str = COMMITTEE) -> dict[str, Any]:
    """Mean over the five confirm sets of `one` less another, 95 % bootstrap interval over their entities."""
    rng = np.random.default_rng(0)
    differences = []
    for of in SETS:
        if of != "simulated":
            of_set = [row for row in rows if (row["set"], row["part"]) == (of, "confirm") and row.get(other)]
            differences.append(np.array([row[one] - row[other] for row in of_set]))
    if not all(map(len, differences)):
        return {}
    draws = [np.mean([rng.choice(each, len(each)).mean() for each in differences]) for _ in range(RESAMPLES)]
    low, high = np.quantile(draws, [0.025, 0.975])
    won = sum(int((each > 0).sum()) for each in differences)
    return {
        "detector": one, "less": other, "mean": float(np.mean([each.mean() for each in differences])),
        "low": float(low), "high": float(high), "won": won, "of": sum(map(len, differences)),
    }  # fmt: skip


@click.command()
@click.option("--data", type=click.Path(path_type=Path), envvar="EDGEKD_DATA", required=True, help="Data folder.")
@click.argument("sets", nargs=-1, type=click.Choice(list(SETS)))
def main(data: Path, sets: tuple[str, ...]) -> None:
    """Measure, print and save; sets that are not named stay as they were."""
    torch.set_num_threads(1)
    before = kept("innovations")
    rows = [row for row in before.get("entities", []) if sets and row["set"] not in sets]
    for name in sets or SETS:
        for entity in SETS[name](data):
            labels = entity.test.labels
            if labels is None or not labels.any() or labels.all():
                continue
            rows.append({"set": name, "part": entity.part, "entity": entity.name, **measured(entity)})
        print(table(summary(rows)), flush=True)
    compared = [found for other in (ENSEMBLE, "H") if (found := paired(rows, other))]
    if compared:
        print(table(compared))
    save("innovations", rounded({"means": summary(rows), "paired": compared, "entities": rows}))


if __name__ == "__main__":
    main()
