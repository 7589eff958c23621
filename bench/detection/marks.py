"""Dismissals come home: alarms marked true or false, and what the setting that the report then names does later.

    python -m bench.detection.marks --seeds 1-3

Seed s trains on 20,000 fault-free samples of a plant. A device runs for 20,000 samples of seed s + 100 with faults, at
the threshold of a budget of false alarms, and somebody who knows the faults marks each alarm. The marks go through
a file, as from the gateway's page; the setting is the report's (`edgekd.evaluation.settings.best`). It is judged on
20,000 samples of seed s + 200, which nobody has looked at: false alarms, and faults told before that are not any more.
"""

from __future__ import annotations

import csv
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np
import torch

from bench.results import rounded, save, table
from edgekd.data import Recording
from edgekd.data.marks import COLUMNS, labeled, read_marks
from edgekd.distillation import distill
from edgekd.evaluation.alarms import alarms_told
from edgekd.evaluation.events import SECONDS_PER_DAY, runs
from edgekd.evaluation.score_model import ModelScores, score_model
from edgekd.evaluation.settings import Outcome, Setting, Verdicts, best
from edgekd.report.gather import told_anyway
from edgekd.simulation.simulate import NAMES, simulate

SAMPLES = 20_000


@click.command()
@click.option("--preset", default="innovations", show_default=True)
@click.option("--budget", default=10.0, show_default=True, help="False alarms a day that the threshold is for.")
@click.option("--seeds", default="1-3", show_default=True, help="FIRST-LAST.")
@click.option("--plant", "plants", multiple=True, type=click.Choice(NAMES), help="Only this one; may be repeated.")
def main(preset: str, budget: float, seeds: str, plants: tuple[str, ...]) -> None:
    """Measure, print and save."""
    torch.set_num_threads(1)
    first, last = (int(seed) for seed in seeds.split("-"))
    rows = []
    for plant in plants or NAMES:
        for seed in range(first, last + 1):
            rows.append({"plant": plant, "seed": seed, **measured(plant, seed, preset, budget)})
            print(table(rows[-1:]), flush=True)
    advised = [row for row in rows if row["setting"]]
    total = {key: sum(row[key] for row in advised) for key in ("false before", "false after", "told before", "lost")}
    total = {"detectors": len(rows), "advised": len(advised), **total}
    print(table(rows), table([total]), sep="\n")
    save(f"marks-{budget:g}", rounded(rows), preset=preset, total=total)


def measured(plant: str, seed: int, preset: str, budget: float) -> dict[str, Any]:
    """One detector: what it told in both stretches, before and with the setting."""
    training = simulate(SAMPLES, seed=seed, faults=(), plant=plant).recording
    marked, later = (simulate(SAMPLES, seed=seed + more, plant=plant).recording for more in (100, 200))
    with TemporaryDirectory() as folder:
        student, marks = Path(folder) / "s.pt", Path(folder) / "marks.csv"
        checkpoint = distill(training, student, preset=preset, false_alarms_per_day=budget)
        now = Setting(float(checkpoint.threshold["value"]))
        seen, unseen = score_model(student, marked), score_model(student, later)
        mark(seen, now.threshold, marks)
        known = labeled(replace(marked, labels=None), read_marks(str(marks)))
    told = verdicts(seen, known)
    advice = best(told, now, told_anyway(seen, told.segments))
    hop_s = seen.hop * marked.period_s
    before, after = (verdicts(unseen, later).outcome(setting) for setting in (now, advice or now))
    learned = [told.outcome(setting).false_alarms for setting in (now, advice or now)]
    anyway = told_anyway(unseen, verdicts(unseen, later).segments)
    return {
        "setting": "" if advice is None else " ".join(f"{k}={v}" for k, v in advice.options(hop_s).items()),
        "threshold": now.threshold,
        "marked false": learned[0],
        "of these still told": learned[1],
        "false before": before.false_alarms,
        "false after": after.false_alarms,
        "told before": int((before.found | anyway).sum()),
        "lost": int((before.found & ~after.found & ~anyway).sum()),
        "later by s": later_by(before, after) * later.period_s,
        "days": float(SAMPLES * later.period_s / SECONDS_PER_DAY),
    }


def mark(found: ModelScores, threshold: float, path: Path) -> None:
    """What somebody who knows the faults says of each alarm, as the gateway's page writes it."""
    recording = found.recording
    assert recording.labels is not None and recording.times_s is not None
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(COLUMNS)
        for alarm in alarms_told(found, threshold):
            true = bool(recording.labels[max(0, alarm.first + 1 - found.hop) : alarm.last + 1].any())
            span = (float(recording.times_s[at]) for at in (alarm.first, alarm.last))
            times = (datetime.fromtimestamp(moment, UTC).isoformat() for moment in span)
            rows.writerow(["plant", *times, str(true).lower(), ""])


def verdicts(found: ModelScores, recording: Recording) -> Verdicts:
    """The scores beside the labels of a recording."""
    assert recording.labels is not None
    segments = runs(recording.labels, recording.starts)
    return Verdicts(found.samples, found.scores, found.hop, segments, recording.starts)


def later_by(before: Outcome, after: Outcome) -> float:
    """Median of how many samples later a fault is told, of those that both tell; 0 without any."""
    both = before.found & after.found
    return float(np.median(after.told_at[both] - before.told_at[both])) if both.any() else 0.0


if __name__ == "__main__":
    main()
