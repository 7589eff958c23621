"""Dismissals come home: alarms marked true or false, and what the setting that the report then names does later.

    python -m bench.detection.marks --seeds 11-20

Seed s trains on 20,000 fault-free samples of the plant, a sample a minute. A device runs for 20,000 samples of seed
s + 100 with faults, at the threshold for one false alarm a day or for three, and somebody who knows the faults marks
each alarm. The marks go through a file, as from the gateway's page; the setting is what the report names. It is judged
on 20,000 samples of seed s + 200, which nobody has looked at: false alarms of the score, and faults told before that
are not any more. Once with the four kinds of faults that last hours at most, once with the two slow ones, too: in those
a score wavers about its threshold for a day, each time is marked true, and little can be gained.
"""

from __future__ import annotations

import csv
from dataclasses import replace
from datetime import UTC, datetime
from itertools import product
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
from edgekd.evaluation.events import runs
from edgekd.evaluation.score_model import ModelScores, score_model
from edgekd.evaluation.settings import Outcome, Setting, Verdicts, best
from edgekd.report.gather import told_anyway
from edgekd.simulation.faults import QUICK
from edgekd.simulation.simulate import KINDS, simulate

SAMPLES = 20_000
BUDGETS = (1.0, 3.0)
"""False alarms a day that the threshold is for."""
FAULTS = {"quick": tuple(QUICK), "all": KINDS}


@click.command()
@click.option("--seeds", default="11-20", show_default=True, help="FIRST-LAST.")
def main(seeds: str) -> None:
    """Measure, print and save."""
    torch.set_num_threads(1)
    first, last = (int(seed) for seed in seeds.split("-"))
    rows: list[dict[str, Any]] = []
    for seed in range(first, last + 1):
        with TemporaryDirectory() as folder:
            student = Path(folder) / "s.pt"
            training = simulate(SAMPLES, seed=seed, faults=()).recording
            points = distill(training, student, preset="innovations").threshold["points"]
            thresholds = {rate: threshold for rate, threshold, _ in points}
            rows += [
                {"faults": faults, "budget": budget, "seed": seed}
                | measured(student, Setting(thresholds[budget]), faults, seed)
                for faults, budget in product(FAULTS, BUDGETS)
            ]
        print(table(rows[-len(FAULTS) * len(BUDGETS) :]), flush=True)
    totals = [
        total(faults, budget, [row for row in rows if (row["faults"], row["budget"]) == (faults, budget)])
        for faults, budget in product(FAULTS, BUDGETS)
    ]
    print(table(totals))
    save("marks", rounded(rows), totals=totals)


def total(faults: str, budget: float, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """All seeds together."""
    counts = ("false before", "false after", "told before", "lost")
    advised = sum(bool(row["setting"]) for row in rows)
    return {
        "faults": faults,
        "budget": budget,
        "seeds": len(rows),
        "advised": advised,
        **{n: sum(row[n] for row in rows) for n in counts},
    }


def measured(student: Path, now: Setting, faults: str, seed: int) -> dict[str, Any]:
    """What one detector told in the weeks that were marked and in those after, before and with the setting."""
    marked, later = (simulate(SAMPLES, seed=seed + more, faults=FAULTS[faults]).recording for more in (100, 200))
    seen, unseen = score_model(student, marked), score_model(student, later)
    with TemporaryDirectory() as folder:
        mark(seen, now.threshold, Path(folder) / "marks.csv")
        known = labeled(replace(marked, labels=None), read_marks(str(Path(folder) / "marks.csv")))
    learned, judged = verdicts(seen, known), verdicts(unseen, later)
    advice = best(learned, now, told_anyway(seen, learned.segments))
    told, then = ([each.outcome(setting) for setting in (now, advice or now)] for each in (learned, judged))
    before, after = then
    anyway = told_anyway(unseen, judged.segments)
    options = {} if advice is None else advice.options(seen.hop * marked.period_s)
    return {
        "now": now.threshold,
        "setting": " ".join(f"--{name} {value}" for name, value in options.items()),
        "marked false": told[0].false_alarms,
        "of these left": told[1].false_alarms,
        "false before": before.false_alarms,
        "false after": after.false_alarms,
        "told before": int((before.found | anyway).sum()),
        "lost": int((before.found & ~after.found & ~anyway).sum()),
        "later by s": later_by(before, after) * later.period_s,
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
