"""Whether a budget of false alarms keeps its word: one a day asked for, measured on normal data that set nothing.

    python -m bench.detection.budget --data DIR [--preset NAME | --method NAME]

Servers (SMD, ASD): the test part, 60 samples around labels left out; simulated plants: 8,000 samples of another seed.
Alarms are counted as the device tells them at its default cooldown. A machine keeps its word within a factor of 3 of
the budget; it is not refuted where an exact Poisson interval (95 %) reaches into that band.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np

from bench.results import WORK, rounded, save, table
from edgekd.data import Recording, load
from edgekd.distillation import configure, distill
from edgekd.evaluation.budget import BUDGETS, AtBudget, at_budgets
from edgekd.evaluation.score_model import score_model
from edgekd.simulation.simulate import simulate

SMD = ("1-2", "1-3", "1-4", "1-5", "1-6", "1-7", "1-8", "2-1", "2-2", "2-3", "2-4", "2-5", "2-7", "2-8")
ASD = (2, 4, 5, 6, 7, 9)
PLANTS = range(1, 11)
DEV = {*(f"SMD {name}" for name in SMD if name.startswith("1-")), "ASD 2", "ASD 4", "ASD 5"}
"""On which the rule was chosen; all plants are apart from it."""
MARGIN = 60  # samples around labels
FACTOR = 3.0
ASKED = 1.0


def parts_of(data: Path) -> dict[str, tuple[Recording, Recording]]:
    """Name -> what trains and what is measured on."""
    files = {f"SMD {name}": f"{data}/smd/machine-{name}.npz" for name in SMD}
    files |= {f"ASD {name}": f"{data}/asd/omi-{name}.npz" for name in ASD}
    found = {name: (load(file, "train"), load(file, "test")) for name, file in files.items()}
    for seed in PLANTS:
        clean = simulate(samples=20_000, sensors=12, seed=seed, faults=()).recording
        found[f"plant {seed}"] = clean, simulate(samples=8_000, sensors=12, seed=seed + 100).recording
    return found


def kept(row: AtBudget) -> bool:
    """Whether the rate that was measured is within the factor of the budget."""
    return row.false_alarms_per_day is not None and ASKED / FACTOR <= row.false_alarms_per_day <= ASKED * FACTOR


def not_refuted(row: AtBudget) -> bool:
    """Whether some rate within the factor agrees with what was counted (exact Poisson interval, Garwood 1936)."""
    from scipy.stats import chi2

    count, days = row.false_alarms, row.normal_days
    low = chi2.ppf(0.025, 2 * count) / 2 if count else 0.0
    high = chi2.ppf(0.975, 2 * (count + 1)) / 2
    return bool(low <= ASKED * FACTOR * days and high >= ASKED / FACTOR * days)


def summary(rows: dict[str, list[AtBudget]]) -> dict[str, Any]:
    """Shares and means over machines, at each budget."""
    asked = [row for machine in rows.values() for row in machine if row.per_day == ASKED]
    watched = [row for row in asked if row.events]
    found: dict[str, Any] = {
        "machines": len(asked),
        "within_3": float(np.mean([kept(row) for row in asked])),
        "no_more_than_3": float(np.mean([(row.false_alarms_per_day or 0) <= ASKED * FACTOR for row in asked])),
        "not_refuted": float(np.mean([not_refuted(row) for row in asked])),
    }
    for index, per_day in enumerate(BUDGETS):
        at = [machine[index] for machine in rows.values()]
        found[f"rate_at_{per_day:g}"] = sum(row.false_alarms for row in at) / sum(row.normal_days for row in at)
        found[f"recall_at_{per_day:g}"] = float(np.mean([row.found / row.events for row in at if row.events]))
    return found | {"events": sum(row.events for row in watched)}


def _teacher(training: Recording, student: Path, method: str) -> Path | None:
    """The committee, for a method that trains no teacher of its own."""
    if method != "regression":
        return None
    teacher = student.with_name(f"{student.stem}-teacher.pt")
    distill(training, teacher, preset="innovations", settings={"slow": False})
    return teacher


@click.command()
@click.option("--data", required=True, envvar="EDGEKD_DATA", type=click.Path(exists=True, path_type=Path))
@click.option("--preset", help="A network is trained undistilled.  [default: innovations]")
@click.option("--method", help="Its default preset; regression learns from the committee.")
def main(data: Path, preset: str | None, method: str | None) -> None:
    """Measure, print and save; students that are trained are kept."""
    method, preset, config = configure(method, preset or (None if method else "innovations"), {})
    called = preset if method in ("linear", "lta") else method
    settings = {"distill": False} if hasattr(config, "distill") else {}
    rows: dict[str, list[AtBudget]] = {}
    for name, (training, measured) in parts_of(data).items():
        student = WORK / "budget" / f"{name.replace(' ', '-')}-{called}.pt"
        student.parent.mkdir(parents=True, exist_ok=True)
        if not student.exists():
            teacher = _teacher(training, student, method)
            distill(training, student, method=method, preset=preset, settings=settings, teacher=teacher)
        rows[name] = at_budgets(score_model(student, measured), margin=MARGIN)
        print(name, [(row.found, row.events, row.false_alarms_per_day) for row in rows[name]], flush=True)
    groups = {
        f"{kind}{where}": {n: r for n, r in rows.items() if n.startswith(kind) and wanted(n)}
        for kind in ("SMD", "ASD", "plant")
        for where, wanted in ((", dev", DEV.__contains__), (", apart", lambda name: name not in DEV))
    }
    groups["all apart"] = {name: row for name, row in rows.items() if name not in DEV}
    figures = [{"machines of": group, **summary(members)} for group, members in groups.items() if members]
    print(table(figures))
    machines = {name: [row.to_json() for row in machine] for name, machine in rows.items()}
    result = "budget" if called == "innovations" else f"budget_{called}"
    save(result, rounded({"groups": figures, "machines": machines}), preset=preset, margin=MARGIN, asked=ASKED)


if __name__ == "__main__":
    main()
