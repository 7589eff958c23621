"""The students that the figures are about, and the command that trains those which are missing.

    python -m bench.trained_students --data DIR [NAME ...]

Each goes to bench/trained/NAME.pt; an interrupted training is resumed. On two quiet cores the SMD students take about
ten minutes each, ASD and SKAB two, MSL fifteen.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from bench.results import WORK

# the published student with capped epochs; MSL is pooled over its 27 channels
PUBLISHED = {"window": 100, "teacher_window": 200, "teacher_epochs": 1, "entity_resets": True}


@dataclass(frozen=True)
class Plan:
    """One training."""

    data: str
    """Recording, relative to the data folder, or a file in bench/trained."""
    preset: str = "edge"
    settings: dict[str, Any] = field(default_factory=dict)
    teacher: str | None = None
    """Plan whose teacher is used instead of training one."""
    seed: int = 0


PLANS: dict[str, Plan] = {
    **{f"smd-{k}": Plan(f"smd/machine-{k}.npz") for k in ("1-2", "2-1", "1-6")},
    "skab": Plan("skab/SKAB.npz#valve1/4"),
    "msl-gru": Plan(
        "smap_msl/MSL.npz",
        "paper",
        {**PUBLISHED, "training_hop": 50, "teacher_hop": 50, "epochs": 2, "accumulator": "gru"},
    ),
    **{
        f"skab-{cell}": Plan(
            "skab/SKAB.npz#valve1/4",
            "paper",
            {**PUBLISHED, "training_hop": 10, "teacher_hop": 10, "epochs": 2, "accumulator": cell},
            teacher=None if cell == "rnn" else "skab-rnn",
        )
        for cell in ("rnn", "gru", "lstm")
    },
    # undistilled, so that six of them are affordable; a teacher did not move these figures in any study so far
    **{f"asd-{k}": Plan(f"asd/omi-{k}.npz", settings={"distill": False}) for k in (2, 4, 5, 6, 7, 9)},
    # with and without the accumulator: no teacher and few epochs, so that seeds are affordable
    **{
        f"{data}-{name}-{seed}": Plan(path, settings={"distill": False, "epochs": 6, **settings}, seed=seed)
        for data, path, seeds in (
            ("sim", "sim-train.csv", 3),
            ("smd", "smd/machine-1-2.npz", 2),
            ("skab", "skab/SKAB.npz#valve1/4", 2),
        )
        for seed in range(seeds)
        for name, settings in (("lta", {}), ("none", {"accumulator": "none"}))
    },
}


def student(name: str) -> Path:
    """Where the student of a plan is."""
    return WORK / f"{name}.pt"


def simulated() -> tuple[Path, Path]:
    """The fault-free plant and the one with its two slow faults, written on the first call."""
    from edgekd.data import save
    from edgekd.simulation.simulate import simulate

    WORK.mkdir(exist_ok=True)
    train, slow = WORK / "sim-train.csv", WORK / "sim-slow.csv"
    if not slow.exists():
        save(simulate(samples=20_000, seed=1, faults=()).recording, train)
        save(simulate(samples=40_000, seed=2, faults=("slow-leak", "cycle-drift")).recording, slow)
    return train, slow


def recording_path(data: Path, plan: Plan) -> str:
    """What `edgekd.data.load` takes."""
    return str(simulated()[0]) if plan.data.startswith("sim-") else str(data / plan.data)


@click.command()
@click.option("--data", type=click.Path(path_type=Path), envvar="EDGEKD_DATA", required=True, help="Data folder.")
@click.argument("names", nargs=-1)
def main(data: Path, names: tuple[str, ...]) -> None:
    """Train the students that are missing, in order."""
    from edgekd.data import load
    from edgekd.distillation import distill, teacher_path
    from edgekd.progress import TrainingProgress

    WORK.mkdir(exist_ok=True)
    for name in names or PLANS:
        plan = PLANS[name]
        if student(name).exists():
            continue
        click.echo(name, err=True)
        teacher = None if plan.teacher is None else teacher_path(student(plan.teacher))
        with TrainingProgress() as progress:
            distill(
                load(recording_path(data, plan), "train"), student(name), preset=plan.preset, settings=plan.settings,
                teacher=teacher, seed=plan.seed, resume=True, report=progress,
            )  # fmt: skip


if __name__ == "__main__":
    main()
