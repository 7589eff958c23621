"""The tables at one glance: every cell as a point, the published figure and the reach of random scores beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.paper_lta.published import DETECTION

PANELS = (
    ("PA F1, thresholds best on test labels", "f1", lambda f: f["counts"]["best_f1"]["f1"], "counts"),
    ("VUS-PR, mean over entities", "vus_pr", lambda f: f["scores"]["entity_vus_pr"], "entity_vus_pr"),
)


def draw(
    found: dict[Any, dict[int, Any]], random: dict[Any, dict[str, tuple[float, float]]], folder: Path, name: str
) -> None:
    """One file a measure and geometry (`name`), one panel a data set, one row a network."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    datasets = [name for name in DETECTION if any(group[0] == name for group in found)]
    for title, kind, value, key in PANELS:
        if not datasets:
            return
        figure, panels = plt.subplots(1, len(datasets), figsize=(5.2 * len(datasets), 4.0), squeeze=False)
        for panel, dataset in zip(panels[0], datasets):
            groups = [group for group in found if group[0] == dataset]
            for place, group in enumerate(groups):
                mean, sd = random[group][key]
                panel.barh(place, 6 * sd, left=mean - 3 * sd, height=0.7, color="0.85", zorder=0)
                panel.plot([mean, mean], [place - 0.35, place + 0.35], color="0.6", lw=1)
                values = [value(figures) for figures in found[group].values()]
                panel.plot(values, [place] * len(values), "o", ms=5, alpha=0.8, color="tab:blue")
                if key == "counts":
                    panel.plot(DETECTION[dataset][group[1]][group[2]][2], place, "|", ms=16, mew=2, color="tab:red")
            panel.set_yticks(range(len(groups)), [f"{row}, w = {window}" for _, row, window in groups], fontsize=8)
            panel.invert_yaxis()
            panel.set_title(dataset)
            panel.set_xlabel(title, fontsize=9)
            panel.grid(axis="x", alpha=0.3)
        published, searched = ("red: published; ", "same search, ") if key == "counts" else ("", "")
        figure.suptitle(f"blue: ours, one point a seed; {published}gray: random scores, {searched}± 3 sd", fontsize=9)
        figure.tight_layout()
        figure.savefig(folder / f"lta_{kind}_{name}.png", dpi=110)
        plt.close(figure)
