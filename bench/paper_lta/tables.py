"""The published LTA tables beside ours and beside random scores.

    python -m bench.paper_lta.tables --data DIR [--table 1|3|4|5] [--dataset MSL|SMAP] [--seeds 3] [--device auto]

Tables 1 and 3 (detection, ablation) are made of cells, see `bench.paper_lta.cells`: what is missing is trained, what is
there is not run again, and processes may share the work. Without --every-window the students of one window for each set
are run. Tables 4 and 5 (time, parameters) need no training. --table-only trains nothing and sums up what is there.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click
import numpy as np

from bench.paper_lta import cost as lta_cost
from bench.paper_lta.cells import CELLS, ROWS, TRAINED, Budget, Cell, scored, trained
from bench.paper_lta.figures import first_verdict, kept, measured, random_by_hop, random_figures, random_windows
from bench.paper_lta.plot import draw
from bench.paper_lta.published import DETECTION, WINDOWS
from bench.results import RESULTS, save, table
from bench.results import kept as kept_results
from edgekd.distillation import training_device
from edgekd.runtime.errors import UsageError
from edgekd.runtime.state import lock_state

TABLES = {
    1: ("Base", "Base_small", "full, GRU", "full, RNN", "full, LSTM"),
    3: ("distillation only", "RNN only", "GRU only", "LSTM only"),
}
GEOMETRIES = {"spanning": "", "nested": "nested windows"}
"""How w becomes window lengths: five steps that together span w, or the longest window alone w long."""
AGREES = 0.05  # of the published F1
CLEAR = 3.0  # standard deviations above random scores

LABEL_FREE = {
    "VUS-PR": "vus_pr",
    "by entity": "entity_vus_pr",
    "AUC-PR": "auc_pr",
    "AUC-PR by entity": "entity_auc_pr",
    "events at 1 false alarm a day": "event_recall_at_1_per_day",
    "the same by entity": "entity_event_recall_at_1_per_day",
}
CALIBRATED = {"events": "event_recall", "false alarms a day": "false_alarms_per_day"}

EFFECTS = {
    "distillation": (
        ("distillation only", "Base_small"), ("full, GRU", "GRU only"), ("full, RNN", "RNN only"),
        ("full, LSTM", "LSTM only"),
    ),
    "accumulator": (
        ("GRU only", "Base_small"), ("RNN only", "Base_small"), ("LSTM only", "Base_small"),
        ("full, GRU", "distillation only"), ("full, RNN", "distillation only"), ("full, LSTM", "distillation only"),
    ),
}  # fmt: skip
"""Pairs of rows that differ by one aid alone."""

Group = tuple[str, str, int]  # data set, row, window
Found = dict[Group, dict[int, dict[str, Any]]]  # figures by seed


# -- cells -------------------------------------------------------------------------------------------------------------


def cells(
    datasets: list[str], seeds: int, rows: list[str], every_window: bool, budget: Budget, variant: str
) -> list[Cell]:
    """Whole seeds early, the two sets in turn."""
    chosen = []
    for seed in range(seeds):
        for row in (row for row in ROWS if row in rows):
            for dataset in datasets:
                published = list(DETECTION[dataset][row])
                windows = published if every_window or row == "Base" else [WINDOWS[dataset]]
                chosen += [Cell(dataset, row, window, seed, budget, variant) for window in windows]
    return chosen


def run(cell: Cell, data: Path, device: str) -> None:
    """Train, score and measure a cell, unless another process is busy with it or with its teacher."""
    try:
        with lock_state(str(cell.file("pt")), click.echo):
            started = time.monotonic()
            checkpoint = trained(cell, data, device, say)
            measured(cell, data, checkpoint, scored(cell, data, checkpoint))
            click.echo(f"{cell.label}: {time.monotonic() - started:.0f} s", err=True)
    except UsageError as error:
        click.echo(f"{cell.label}: passed over: {error}", err=True)


def say(event: dict[str, Any]) -> None:
    """One line an epoch."""
    if "validation" in event:
        click.echo(
            f"{event['job']} {event['epoch']}/{event['epochs']} loss {event['loss']:.5f} "
            f"validation {event['validation']:.5f} {event['seconds']:.0f} s",
            err=True,
        )


# -- what they say together --------------------------------------------------------------------------------------------


def gathered(chosen: list[Cell]) -> Found:
    """The figures that are there, in the order of the published tables."""
    found: Found = {}
    for cell in sorted(chosen, key=lambda c: (c.dataset, list(DETECTION[c.dataset]).index(c.row), -c.window, c.seed)):
        figures = kept(cell)
        if figures is not None:
            found.setdefault((cell.dataset, cell.row, cell.window), {})[cell.seed] = figures
    return found


def spread(values: list[float]) -> str:
    """Mean ± standard deviation (n - 1), where there are several."""
    mean = f"{np.mean(values):.3f}"
    return f"{mean} ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else mean


def chance(data: Path, group: Group, figures: dict[str, Any]) -> dict[str, tuple[float, float]]:
    """Random scores for the verdicts that a row's cells give."""
    dataset, _, window = group
    hop = figures["settings"]["hop"]
    return random_figures(data, dataset, first_verdict(window, hop), hop)


def detection(found: Found, data: Path, rows: tuple[str, ...]) -> list[dict[str, Any]]:
    """The published protocol: published F1, ours by each rule for the two thresholds, and random scores."""
    lines = []
    for group, by_seed in found.items():
        dataset, row, window = group
        if row not in rows:
            continue
        each = [figures["counts"] for figures in by_seed.values()]
        precision, recall, f1 = DETECTION[dataset][row][window]
        best = [rules["best_f1"]["f1"] for rules in each]
        random = chance(data, group, next(iter(by_seed.values())))
        mean, sd = random["counts"]
        above = (float(np.mean(best)) - mean) / sd
        lines.append({
            "set": dataset, "row": row, "w": window, "seeds": len(by_seed),
            "published P / R / F1": f"{precision:.2f} / {recall:.2f} / {f1:.2f}",
            "ours P / R": f"{mean_of(each, 'precision'):.2f} / {mean_of(each, 'recall'):.2f}",
            "ours F1": spread(best),
            "off": float(np.mean(best)) - f1,
            "random, one ranking": "{:.3f} ± {:.3f}".format(*random["pa_f1_best"]),
            "random, same search": f"{mean:.3f} ± {sd:.3f}",
            "sd above random": above,
            "ours, labels laid anew": f"{np.mean([rules['best_f1']['relaid f1'][0] for rules in each]):.3f}",
            "holds": holds(best, f1, above),
            "F1, calibrated": spread([rules["calibrated"]["f1"] for rules in each]),
            "random alarms, as many": spread_of(each, "calibrated"),
            "F1, reference": spread([rules["reference"]["f1"] for rules in each]),
            "as many random": spread_of(each, "reference"),
        })  # fmt: skip
    return lines


def holds(f1: list[float], published: float, above: float) -> str:
    """Whether the mean is near the published figure, and so many standard deviations above chance are enough."""
    return "yes" if abs(np.mean(f1) - published) <= AGREES and above >= CLEAR else "NO"


def by_windows(found: Found, data: Path) -> list[dict[str, Any]]:
    """The published protocol in its second reading: all of a window's samples label it, and windows are counted."""
    lines = []
    for (dataset, row, window), by_seed in found.items():
        each = [figures["counts"]["windows"] for figures in by_seed.values()]
        random = random_windows(data, dataset, window, next(iter(by_seed.values()))["settings"]["hop"])
        published, f1, (mean, sd) = DETECTION[dataset][row][window][2], [one["f1"] for one in each], random["search"]
        above = (float(np.mean(f1)) - mean) / sd
        lines.append({
            "set": dataset, "row": row, "w": window, "seeds": len(each), "published F1": published,
            "ours P / R": " / ".join(f"{np.mean([one[key] for one in each]):.2f}" for key in ("precision", "recall")),
            "ours F1": spread(f1), "off": float(np.mean(f1)) - published,
            "random, one ranking": "{:.3f} ± {:.3f}".format(*random["one"]), "same search": f"{mean:.3f} ± {sd:.3f}",
            "sd above random": above,
            "holds": holds(f1, published, above),
        })  # fmt: skip
    return lines


def random_by_window(data: Path) -> list[dict[str, Any]]:
    """Random scores at every published w in both readings, beside what the paper has for its networks there."""
    lines = []
    for dataset, rows in DETECTION.items():
        for window in sorted({window for published in rows.values() for window in published}, reverse=True):
            networks = [published[window][2] for published in rows.values() if window in published]
            hop = Cell(dataset, "Base", window, 0).config.hop
            pooled = random_figures(data, dataset, first_verdict(window, hop), hop)["pa_f1_best"]
            lines.append({
                "set": dataset, "w": window,
                "published F1 of its networks": f"{min(networks):.2f} to {max(networks):.2f}",
                "random, new samples": "{:.3f} ± {:.3f}".format(*pooled),
                "random, whole windows": "{:.3f} ± {:.3f}".format(*random_windows(data, dataset, window, hop)["one"]),
            })  # fmt: skip
    return lines


def mean_of(each: list[dict[str, Any]], figure: str) -> float:
    """Mean over cells of a figure at the thresholds that are best on the test labels."""
    return float(np.mean([rules["best_f1"][figure] for rules in each]))


def spread_of(each: list[dict[str, Any]], rule: str) -> str:
    """Mean over cells of what as many random alarms get."""
    mean, sd = np.mean([rules[rule]["random f1"] for rules in each], axis=0)
    return f"{mean:.3f} ± {sd:.3f}"


def diagnosis(found: Found) -> list[dict[str, Any]]:
    """Why a pooled threshold finds so little: means over seeds of what the scores are made of."""
    titles = {
        "variance between entities": "between_entities",
        "lag-1 correlation": "lag_1",
        "F1 of the score": "pa_f1_best",
        "F1 of its ranks within entities": "pa_f1_best_of_ranks",
    }
    return [
        {"set": dataset, "row": row, "w": window}
        | {title: spread([cell["diagnosis"][key] for cell in by_seed.values()]) for title, key in titles.items()}
        for (dataset, row, window), by_seed in found.items()
    ]


def label_free(found: Found, data: Path) -> list[dict[str, Any]]:
    """What nothing was chosen for by the labels; random scores under the rows that score the same windows."""
    lines = []
    places = sorted({(dataset, -window) for dataset, _, window in found})
    for groups in ([g for g in found if (g[0], -g[2]) == place] for place in places):
        for group in groups:
            each = [figures["scores"] for figures in found[group].values()]
            columns = (LABEL_FREE | CALIBRATED).items()
            lines.append(
                {"set": group[0], "row": group[1], "w": group[2], "seeds": str(len(each))}
                | {title: spread([scores[key] for scores in each]) for title, key in columns}
            )
        random = chance(data, groups[0], next(iter(found[groups[0]].values())))
        lines.append(
            lines[-1]
            | {"row": "random scores", "seeds": ""}
            | {title: "{:.3f} ± {:.3f}".format(*random[key]) for title, key in LABEL_FREE.items()}
            | dict.fromkeys(CALIBRATED, "")
        )
    return lines


def effects(found: Found) -> list[dict[str, Any]]:
    """What each aid changes, paired over seeds and over the rows that differ by it alone."""
    lines = []
    for dataset in WINDOWS:
        for aid, pairs in EFFECTS.items():
            gains: dict[str, list[float]] = {"PA F1 (best on test labels)": [], "VUS-PR": [], "VUS-PR by entity": []}
            for with_it, without in pairs:
                one, other = (found.get((dataset, row, WINDOWS[dataset]), {}) for row in (with_it, without))
                for seed in sorted(set(one) & set(other)):
                    a, b = one[seed], other[seed]
                    found_gains = (
                        a["counts"]["best_f1"]["f1"] - b["counts"]["best_f1"]["f1"],
                        a["scores"]["vus_pr"] - b["scores"]["vus_pr"],
                        a["scores"]["entity_vus_pr"] - b["scores"]["entity_vus_pr"],
                    )
                    for values, gain in zip(gains.values(), found_gains):
                        values.append(gain)
            if count := len(gains["VUS-PR"]):
                lines.append(
                    {"set": dataset, "gain by": aid, "pairs": count}
                    | {title: spread(values) for title, values in gains.items()}
                    | {
                        f"better in, {title}": f"{sum(v > 0 for v in values)} of {count}"
                        for title, values in gains.items()
                    }
                )
    return lines


@click.command()
@click.option("--data", type=click.Path(path_type=Path), envvar="EDGEKD_DATA", required=True, help="Data folder.")
@click.option("--table", "tables", type=click.Choice(["1", "3", "4", "5"]), multiple=True, help="These alone.")
@click.option("--dataset", type=click.Choice(list(WINDOWS)), help="One set alone.")
@click.option("--seeds", default=3, show_default=True, help="How many seeds, from 0 on.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", help="Where networks train.")
@click.option("--geometry", type=click.Choice(list(GEOMETRIES)), default="spanning", help="What w becomes.")
@click.option("--epochs", default=Budget.epochs, show_default=True, help="Epochs of the students.")
@click.option("--teacher-epochs", default=Budget.teacher_epochs, show_default=True, help="Epochs of the teachers.")
@click.option("--training-hop", default=Budget.training_hop, show_default=True, help="Between training windows.")
@click.option(
    "--lstm/--no-lstm", default=True, show_default=True, help="The rows with an LSTM, which the paper ranks last."
)
@click.option("--every-window", is_flag=True, help="Students of every published window.")
@click.option("--table-only", is_flag=True, help="Train nothing: sum up the cells that are there.")
def main(
    data: Path, tables: tuple[str, ...], dataset: str | None, seeds: int, device: str, epochs: int,
    teacher_epochs: int, training_hop: int, lstm: bool, every_window: bool, table_only: bool, geometry: str,
) -> None:  # fmt: skip
    """Run the cells that are missing, then print, draw and save what all of them say."""
    for folder in (CELLS, TRAINED):
        folder.mkdir(parents=True, exist_ok=True)
    chosen = [int(name) for name in tables] or [1, 3, 4, 5]
    budget = Budget(epochs, teacher_epochs, training_hop)
    rows = [row for number in chosen for row in TABLES.get(number, ()) if lstm or "LSTM" not in row]
    variant = GEOMETRIES[geometry]
    wanted = cells([dataset] if dataset else list(WINDOWS), seeds, rows, every_window, budget, variant)
    for cell in wanted:
        if not table_only and kept(cell) is None:
            run(cell, data, training_device(device))
    before = kept_results("lta_tables")
    figures = {key: before[key] for key in ("table 4", "table 5") if key in before}  # unless they are made anew
    for name, variant in GEOMETRIES.items():
        found = gathered(cells(list(WINDOWS), seeds, list(ROWS), every_window, budget, variant))
        figures |= {f"table {number}, {name}": detection(found, data, TABLES[number]) for number in TABLES}
        figures |= {f"label-free, {name}": label_free(found, data), f"effects, {name}": effects(found)}
        figures |= {f"diagnosis, {name}": diagnosis(found), f"whole windows, {name}": by_windows(found, data)}
        draw(found, {group: chance(data, group, next(iter(by.values()))) for group, by in found.items()}, RESULTS, name)
    figures["random by hop"] = [row for name, window in WINDOWS.items() for row in random_by_hop(data, name, window)]
    figures["random by w"] = random_by_window(data)
    if 4 in chosen and not table_only:
        figures["table 4"] = lta_cost.times()
    if 5 in chosen:
        figures["table 5"] = lta_cost.parameters()
    for name, lines in figures.items():
        print(f"\n{name}\n\n{table(lines)}" if lines else f"\n{name}: nothing yet")
    save("lta_tables", figures, settings={"seeds": seeds, **vars(budget)})


if __name__ == "__main__":
    main()
