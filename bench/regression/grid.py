"""Score regression on images: seven students, five trainings, two sets, one class as the normal one, several seeds.

    python -m bench.regression.grid --data DIR --classes 0,3,7 --seeds 2       # the subset whose figures are kept
    python -m bench.regression.grid --data DIR                                 # everything: ten classes, three seeds
    python -m bench.regression.grid --data DIR --student our-S3 --student-epochs 60 --classes 0,3,7 --seeds 2

One task is one class of one set with one seed: it trains the teacher and all 35 students and keeps its figures as
bench/results/regression/SET-CLASS-sSEED.json. Tasks that are there are not run again, an interrupted one goes on after
its last whole epoch; several processes may share the work with --sets, --classes and --only-seed.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np

from bench.regression.task import SETS, TRAININGS, Settings, Task, run_task
from bench.results import RESULTS, rounded, save, table, write_json
from edgekd.methods.regression.networks import LADDER

CELLS = RESULTS / "regression"


def cell(task: Task, settings: Settings) -> Path:
    """Where a task's figures are kept."""
    return CELLS / f"{task.label}{settings.suffix}.json"


def kept(task: Task, settings: Settings) -> dict[str, Any] | None:
    """The figures of a task that was run with these settings."""
    if not cell(task, settings).exists():
        return None
    found = json.loads(cell(task, settings).read_text())
    return found if Settings.of(found["settings"]) == settings else None


# -- what the tasks say together ---------------------------------------------------------------------------------------


def summary(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each training and student: means over the tasks, and the spread of the AUC."""
    rows = []
    teacher = np.array([found["teacher"]["auc"] for found in cells])
    for training in TRAININGS:
        for student, count in cells[0]["parameters"].items():
            each = [found["students"][training][student] for found in cells]
            aucs = np.array([one["auc"] for one in each])
            int8 = [one["int8"] for one in each]
            rows.append(
                {
                    "training": training,
                    "student": student,
                    "parameters": count,
                    "AUC": float(aucs.mean()),
                    "sd": float(aucs.std(ddof=1)) if len(aucs) > 1 else 0.0,
                    "minus teacher": float((aucs - teacher).mean()),
                    "Spearman": float(np.mean([one["rank_correlation"] for one in each])),
                    "EMD normal": float(np.mean([one["emd_normal"] for one in each])),
                    "EMD anomalous": float(np.mean([one["emd_anomalous"] for one in each])),
                    "EMD pooled": float(np.mean([one["emd_pooled"] for one in each])),
                    "int8 AUC change, worst": float(max(abs(i["auc"] - o["auc"]) for i, o in zip(int8, each))),
                    "int8 Spearman, worst": float(min(i["rank_correlation"] for i in int8)),
                    "int8 ties in top 1 %, worst": float(max(i["ties_in_top"] for i in int8)),
                }
            )
    return rows


def comparisons(cells: list[dict[str, Any]], against: str = "baseline") -> list[dict[str, Any]]:
    """How each training's AUC differs from another's, paired over tasks: mean and standard error for each student."""
    rows = []
    for training in (training for training in TRAININGS if training != against):
        for student in cells[0]["parameters"]:
            gains = np.array(
                [f["students"][training][student]["auc"] - f["students"][against][student]["auc"] for f in cells]
            )
            error = float(gains.std(ddof=1) / np.sqrt(len(gains))) if len(gains) > 1 else 0.0
            row = {"training": training, "student": student, "gain": float(gains.mean()), "standard error": error}
            rows.append({**row, "better in": f"{int((gains > 0).sum())} of {len(gains)}"})
    return rows


def side_by_side(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each student: mean AUC by every training beside the teacher's."""
    found = summary(cells)
    teacher = float(np.mean([cell["teacher"]["auc"] for cell in cells]))
    return [
        {"student": student, "parameters": count, "teacher": teacher}
        | {row["training"]: row["AUC"] for row in found if row["student"] == student}
        for student, count in cells[0]["parameters"].items()
    ]


def best_counts(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For how many of the students each training has the highest mean AUC, in one row."""
    rows = summary(cells)
    students = list(cells[0]["parameters"])
    best = [
        max((r for r in rows if r["student"] == student), key=lambda r: r["AUC"])["training"] for student in students
    ]
    return [{training: best.count(training) for training in TRAININGS}]


def draw(by_set: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """AUC against parameters, one line a training, the teacher as the line above; one panel a set."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, len(by_set), figsize=(5.5 * len(by_set), 4.2), sharey=False, squeeze=False)
    for panel, (name, cells) in zip(panels[0], by_set.items()):
        rows = summary(cells)
        for training in TRAININGS:
            line = [row for row in rows if row["training"] == training]
            panel.plot([r["parameters"] for r in line], [r["AUC"] for r in line], marker="o", ms=4, label=training)
        teacher = np.mean([found["teacher"]["auc"] for found in cells])
        panel.axhline(teacher, color="black", ls="--", lw=1, label=f"teacher ({cells[0]['teacher']['parameters']:,})")
        panel.set_xscale("log")
        panel.set_xlabel("parameters of the student")
        panel.set_ylabel("ROC-AUC")
        panel.set_title(f"{name}, {len(cells)} tasks")
        panel.grid(alpha=0.3)
    panels[0][0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def numbers(context: click.Context, option: click.Parameter, text: str) -> list[int]:
    """0,3,7 as a list."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise click.BadParameter("write class numbers with commas, as in 0,3,7") from None


@click.command()
@click.option("--data", type=click.Path(path_type=Path), envvar="EDGEKD_DATA", required=True, help="Data folder.")
@click.option("--classes", callback=numbers, default=",".join(map(str, range(10))), help="Classes, as in 0,3,7.")
@click.option("--seeds", default=3, show_default=True, help="How many seeds, from 0 on.")
@click.option("--only-seed", type=int, help="Run this seed alone.")
@click.option("--sets", default=",".join(SETS), show_default=True, help="Sets, with commas.")
@click.option("--epochs", default=Settings.epochs, show_default=True, help="Epochs of teacher and students.")
@click.option("--student-epochs", default=0, help="Epochs of the students that are taught after it, if not as many.")
@click.option("--student", "students", multiple=True, type=click.Choice(list(LADDER)), help="These students alone.")
@click.option("--table-only", is_flag=True, help="Run nothing: sum up the tasks that are there.")
def main(
    data: Path, classes: list[int], seeds: int, only_seed: int | None, sets: str, epochs: int, student_epochs: int,
    students: tuple[str, ...], table_only: bool,
) -> None:  # fmt: skip
    """Run the tasks that are missing, then print, draw and save what all of them say."""
    import torch

    torch.set_num_threads(1)
    settings = Settings(epochs, student_epochs, students or tuple(LADDER))
    chosen_seeds = range(seeds) if only_seed is None else [only_seed]
    tasks = [Task(name, chosen, seed) for seed in chosen_seeds for chosen in classes for name in sets.split(",")]
    CELLS.mkdir(parents=True, exist_ok=True)
    for number, task in enumerate(tasks, 1):
        if table_only or kept(task, settings) is not None:
            continue
        figures = run_task(data, task, settings, partial(say, f"{number}/{len(tasks)} {task.label}"))
        write_json(cell(task, settings), rounded(figures))
        click.echo(f"{task.label}: teacher {figures['teacher']['auc']:.3f}, cpu {sum(figures['cpu_s'].values()):.0f} s")
    found = {task: kept(task, settings) for task in tasks}
    by_set = {name: [f for t, f in found.items() if f is not None and t.name == name] for name in sets.split(",")}
    by_set = {name: cells for name, cells in by_set.items() if cells}
    if not by_set:
        raise click.ClickException("no task has been run with these settings")
    for name, cells in by_set.items():
        print(f"\n{name}: {len(cells)} tasks, teacher {np.mean([c['teacher']['auc'] for c in cells]):.3f}\n")
        print(table(summary(cells)))
        print(f"\nhighest mean AUC for so many students: {best_counts(cells)[0]}")
    name = f"regression_grid{settings.suffix}"
    draw(by_set, RESULTS / f"{name}.png")
    kinds = {"trainings": side_by_side, "students": summary, "against baseline": comparisons, "best": best_counts}
    figures: dict[str, Any] = {
        kind: [{"set": name, **row} for name, cells in by_set.items() for row in found_by(cells)]
        for kind, found_by in kinds.items()
    }
    figures["tasks"] = [
        {"set": name, **cell["task"], "teacher AUC": cell["teacher"]["auc"]}
        for name, cells in by_set.items()
        for cell in cells
    ]
    save(name, rounded(figures), settings=asdict(settings))


def say(what: str, event: dict[str, Any]) -> None:
    """One line an epoch."""
    if "validation" in event:
        click.echo(
            f"{what}: {event['job']} {event['epoch']}/{event['epochs']} validation {event['validation']:.4f} "
            f"{event['seconds']:.0f} s",
            err=True,
        )


if __name__ == "__main__":
    main()
