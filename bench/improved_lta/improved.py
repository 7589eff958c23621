"""The improved LTA beside the reproduction of the paper, the cheap detectors and random scores, with its ablation.

    python -m bench.improved_lta.improved --data DIR [--dataset MSL ...] [--seeds 3]

Reported on machines and channels that `python -m bench.improved_lta.tuning` has not seen. What is trained or scored
already is kept under bench/trained/lta_improved/; the figures of each data set, entity by entity, are in
bench/results/lta_improved/SET.json, the tables made of them in bench/results/lta_improved.json.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from itertools import product
from pathlib import Path
from typing import Any

import click
import numpy as np

from bench.improved_lta.baselines import CHEAP, FOREST_SEEDS, baseline
from bench.improved_lta.entities import LENGTHS, PLANTS, SETS, VARIANTS, Cell, Entity, entities, terms
from bench.improved_lta.measures import Verdicts, as_it_is, combined, every, ranking, together, under_all_protocols
from bench.paper_lta.cells import ROWS, TEACHER_WINDOWS
from bench.paper_lta.cells import Cell as PaperCell
from bench.paper_lta.tables import WINDOWS
from bench.results import RESULTS, save, table, write_json
from edgekd.evaluation.chance import random_scores

FIGURES = RESULTS / "lta_improved"
DRAWS = 5  # of random scores
PAPER_HOP = 5  # hops of the improved student in one of the paper
SHOWN = {
    "VUS-PR": "entity_vus_pr",
    "AUC-PR": "entity_auc_pr",
    "recall at 1 a day": "entity_event_recall_at_1_per_day",
    "pooled VUS-PR": "vus_pr",
    "event recall": "event_recall",
    "false alarms a day": "false_alarms_per_day",
    "PA F1, best on test": "pa_f1_best",
}
"""Columns, by the keys of `protocols`."""

Rule = Callable[[Cell], Verdicts]


def of_terms(*names: str, memory: bool = True) -> Rule:
    """A score made of some terms of a trained student."""

    def rule(cell: Cell) -> Verdicts:
        hops = PLANTS[cell.entity.dataset].get("memory", 1) if memory else 1
        return combined(cell.entity, terms(cell), names, hops)

    return rule


FULL = of_terms("residual", "mahalanobis")
ABLATION: dict[str, Rule] = {
    "improved": FULL,
    "score of all sensors, commands too": of_terms("residual, all sensors", "mahalanobis, all sensors"),
    "no memory": of_terms("residual", "mahalanobis", memory=False),
    "neither": of_terms("residual, all sensors", "mahalanobis, all sensors", memory=False),
    "network alone": of_terms("residual"),
    "Mahalanobis alone": of_terms("mahalanobis"),
    "no network: energy of the same matrices instead": of_terms("energy", "mahalanobis"),
    "no network: that energy alone": of_terms("energy"),
    "squared residual as it is": of_terms("plain", "mahalanobis"),
    "top 1 % of the squared residuals": of_terms("top", "mahalanobis"),
    "a verdict every 50 samples": lambda cell: every(cell.entity, FULL(cell), PAPER_HOP),
}
"""The same trained students under other rules."""


def measured(
    chosen: tuple[Entity, ...], verdicts: list[Verdicts], hop: int, threshold: float | None = 1.0
) -> dict[str, Any]:  # fmt: skip
    """All protocols, and the ranking measures of each entity."""
    figures = under_all_protocols(together(chosen), verdicts, hop, threshold)
    each = {entity.name: ranking(entity, one, hop) for entity, one in zip(chosen, verdicts)}
    return {"figures": figures, "entities": each}


def ranked(chosen: tuple[Entity, ...], verdicts: Iterable[Verdicts], hop: int) -> dict[str, Any]:
    """The ranking measures of each entity alone: what an ablation needs."""
    return {"entities": {entity.name: ranking(entity, one, hop) for entity, one in zip(chosen, verdicts)}}


def figures_of(data: Path, dataset: str, seeds: int) -> dict[str, Any]:
    """Every figure of one data set, by detector, one for each seed."""
    chosen = entities(data, dataset, False)
    hop = LENGTHS[dataset][0]
    found: dict[str, Any] = {"hop": hop, "improved": [], "cheap": {}, "ablation": {}, "retrained": {}}
    for seed in range(seeds):
        cells = [Cell(entity, seed=seed) for entity in chosen]
        click.echo(f"{dataset}: seed {seed}", err=True)
        found["improved"].append(measured(chosen, [FULL(cell) for cell in cells], hop))
        for name, rule in ABLATION.items():
            own_hop = hop * PAPER_HOP if "50" in name else hop
            found["ablation"].setdefault(name, []).append(ranked(chosen, map(rule, cells), own_hop))
    for detector in CHEAP:
        for only in (False, True) if "judged" in PLANTS[dataset] else (False,):
            label = f"{detector}, telemetry alone" if only else detector
            runs = range(FOREST_SEEDS if detector == "isolation forest" else 1)
            found["cheap"][label] = [
                measured(chosen, [as_it_is(entity, baseline(entity, detector, only, run)) for entity in chosen], hop)
                for run in runs
            ]
            click.echo(f"{dataset}: {label}", err=True)
    found["random"] = [_random(chosen, draw, hop) for draw in range(DRAWS)]
    for variant in VARIANTS:
        cells = [Cell(entity, variant) for entity in chosen]
        if variant != "improved" and all(cell.file("npz").exists() for cell in cells):
            found["retrained"][variant] = [ranked(chosen, map(FULL, cells), hop)]
    found["reproduction"] = reproduction(chosen, dataset)
    return found


def _random(chosen: tuple[Entity, ...], draw: int, hop: int) -> dict[str, Any]:
    samples = [np.arange(hop, len(entity.test) + 1, hop) - 1 for entity in chosen]
    verdicts = [Verdicts(own, random_scores(len(own), 1000 * draw + i)) for i, own in enumerate(samples)]
    return measured(chosen, verdicts, hop)


def reproduction(chosen: tuple[Entity, ...], dataset: str) -> dict[str, list[dict[str, Any]]]:
    """The cells of `bench.paper_lta.tables` that are there, on the entities reported here: row -> one for each seed.

    Their students ran over all channels as one stream; each is ranked within each channel.
    """
    if dataset not in WINDOWS:
        return {}
    found: dict[str, list[dict[str, Any]]] = {}
    for row, variant, seed in product(ROWS, ("", "nested windows"), range(3)):
        window = TEACHER_WINDOWS[dataset] if row == "Base" else WINDOWS[dataset]
        cell = PaperCell(dataset, row, window, seed, variant=variant)
        if cell.file("npz").exists():
            found.setdefault(f"{row}, {variant}" if variant else row, []).append(
                measured(chosen, _cut(cell, chosen), cell.config.hop, None)
            )
    return found


def _cut(cell: PaperCell, chosen: tuple[Entity, ...]) -> list[Verdicts]:
    """A pooled cell's scores, cut into those of each entity."""
    with np.load(cell.file("npz")) as arrays:
        samples, scores = arrays["samples"], arrays["scores"].astype(np.float64)
    verdicts = []
    for entity in chosen:
        start = entity.start
        inside = (samples >= start) & (samples < start + len(entity.test))
        verdicts.append(Verdicts(samples[inside] - start, scores[inside]))
    return verdicts


# -- tables ------------------------------------------------------------------------------------------------------------


def mean_vus(run: dict[str, Any]) -> float:
    """Mean over entities."""
    return float(np.mean([each["VUS-PR"] for each in run["entities"].values()]))


def spread(values: list[float]) -> str:
    """Mean ± standard deviation over seeds."""
    deviation = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{deviation}"


def detection(dataset: str, found: dict[str, Any]) -> list[dict[str, Any]]:
    """One row for each detector."""
    rows = []
    for detector, runs in by_detector(found).items():
        columns = {
            name: spread([run["figures"][key] for run in runs]) if key in runs[0]["figures"] else ""
            for name, key in SHOWN.items()
        }
        rows.append({"set": dataset, "detector": detector, "seeds": len(runs), **columns})
    return rows


def by_detector(found: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The runs of every detector on one data set, ours first."""
    paper = {f"paper, {row}": runs for row, runs in found["reproduction"].items()}
    return {"improved LTA": found["improved"], **paper, **found["cheap"], "random": found["random"]}


def ablation(found: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each rule, VUS-PR per entity on each set."""
    rows = []
    for kind in ("ablation", "retrained"):
        for name in dict.fromkeys(name for one in found.values() for name in one[kind]):
            columns = {
                dataset: spread([mean_vus(run) for run in one[kind][name]]) if name in one[kind] else ""
                for dataset, one in found.items()
            }
            rows.append({"configuration": f"retrained: {name}" if kind == "retrained" else name, **columns})
    return rows


def draw(found: dict[str, dict[str, Any]]) -> None:
    """VUS-PR of every detector, one panel a set, best first; a tick a seed."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    colors = {"improved": "tab:red", "paper": "tab:blue", "random": "0.6"}
    figure, panels = plt.subplots(
        -(-len(found) // 2), 2, figsize=(13.0, 4.5 * -(-len(found) // 2)), squeeze=False, layout="constrained"
    )
    for panel, (dataset, one) in zip(panels.flat, found.items()):
        values = {name: [mean_vus(run) for run in runs] for name, runs in by_detector(one).items()}
        names = sorted(values, key=lambda name: float(np.mean(values[name])))
        for place, name in enumerate(names):
            color = colors.get(name.split(",")[0].split(" ")[0], "tab:olive")
            panel.barh(place, np.mean(values[name]), color=color, alpha=0.5)
            panel.plot(values[name], [place] * len(values[name]), "k|", ms=8)
        panel.set_yticks(range(len(names)), names, fontsize=7)
        panel.set_title(f"{dataset}, {len(one['random'][0]['entities'])} entities")
        panel.set_xlabel("VUS-PR, mean over entities", fontsize=9)
        panel.grid(axis="x", alpha=0.3)
    figure.savefig(RESULTS / "lta_improved.png", dpi=90)
    plt.close(figure)


@click.command()
@click.option("--data", type=click.Path(path_type=Path), envvar="EDGEKD_DATA", required=True, help="Data folder.")
@click.option("--dataset", "datasets", multiple=True, type=click.Choice(SETS), help="These sets alone.")
@click.option("--seeds", default=3, show_default=True, help="How many seeds, from 0 on.")
def main(data: Path, datasets: tuple[str, ...], seeds: int) -> None:
    """Train what is missing, measure, print and save; the other sets keep their figures."""
    FIGURES.mkdir(parents=True, exist_ok=True)
    for dataset in datasets or SETS:
        write_json(FIGURES / f"{dataset}.json", figures_of(data, dataset, seeds))
    paths = {dataset: FIGURES / f"{dataset}.json" for dataset in SETS}
    found = {dataset: json.loads(path.read_text()) for dataset, path in paths.items() if path.exists()}
    rows = [row for dataset, one in found.items() for row in detection(dataset, one)]
    print(table(rows), table(ablation(found)), sep="\n\n")
    save("lta_improved", {"detection": rows, "ablation": ablation(found)})
    draw(found)


if __name__ == "__main__":
    main()
