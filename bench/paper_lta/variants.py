"""What of the published LTA the paper leaves open, one change at a time: does any of it explain how far ours is off?

    python -m bench.paper_lta.variants --data DIR [NAME ...]

SMAP at w = 50, the student with an RNN and no teacher, one seed, everything else as in `bench.paper_lta.tables`.
Figures of the published protocol are chosen by the test labels, as it does; nothing else of EdgeKD was chosen by this
table.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bench.paper_lta.cells import TRAINED, VARIANTS, Cell
from bench.paper_lta.figures import kept, random_figures
from bench.paper_lta.published import DETECTION
from bench.paper_lta.tables import run
from bench.results import save, table
from edgekd.distillation import training_device

DATASET, ROW, WINDOW, SEED = "SMAP", "RNN only", 50, 0


def line(variant: str, figures: dict[str, Any]) -> dict[str, Any]:
    """One row of the table."""
    counts, scores = figures["counts"], figures["scores"]
    best = counts["best_f1"]
    return {
        "variant": variant or "as in the tables",
        "last validation loss": figures["histories"]["student"][-1]["validation"],
        "P / R": f"{best['precision']:.2f} / {best['recall']:.2f}",
        "PA F1 (best on test labels)": best["f1"],
        "theta": best["theta"],
        "K": int(best["k"]),
        "F1, calibrated": counts["calibrated"]["f1"],
        "VUS-PR": scores["vus_pr"],
        "VUS-PR by entity": scores["entity_vus_pr"],
        "events at 1 false alarm a day": scores["event_recall_at_1_per_day"],
    }


@click.command()
@click.option("--data", type=click.Path(path_type=Path), envvar="EDGEKD_DATA", required=True, help="Data folder.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", help="Where networks train.")
@click.argument("names", nargs=-1)
def main(data: Path, device: str, names: tuple[str, ...]) -> None:
    """Run the variants that are missing, then print and save what all of them say."""
    TRAINED.mkdir(parents=True, exist_ok=True)
    cells = {variant: Cell(DATASET, ROW, WINDOW, SEED, variant=variant) for variant in VARIANTS}
    for variant in names or VARIANTS:
        if kept(cells[variant]) is None:
            run(cells[variant], data, training_device(device))
    lines = [line(variant, figures) for variant, cell in cells.items() if (figures := kept(cell)) is not None]
    random = random_figures(data, DATASET, WINDOW - 1, 50)
    chance = {
        "PA F1 (best on test labels)": "counts", "VUS-PR": "vus_pr", "VUS-PR by entity": "entity_vus_pr",
        "events at 1 false alarm a day": "event_recall_at_1_per_day",
    }  # fmt: skip
    lines.append(
        dict.fromkeys(lines[0], "")
        | {"variant": "random scores"}
        | {title: "{:.3f} ± {:.3f}".format(*random[key]) for title, key in chance.items()}
    )
    print(table(lines))
    save("lta_variants", lines, published=DETECTION[DATASET][ROW][WINDOW])


if __name__ == "__main__":
    main()
