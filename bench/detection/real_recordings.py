"""Detection of the exported int8 files on real recordings, beside float, the yardsticks and random scores.

    python -m bench.detection.real_recordings --data DIR

Thresholds come from normal training data alone. Two tables: int8 against float for each student, and every detector on
every recording.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np
from scipy.stats import spearmanr

from bench.results import WORK, kept, save, table
from bench.trained_students import PLANS, student
from edgekd.checkpoint import Checkpoint
from edgekd.data import Recording, load
from edgekd.distillation import distill
from edgekd.evaluation.report import Report, evaluate_scores
from edgekd.evaluation.score_model import ModelScores, score_model
from edgekd.export import export

STUDENTS = ("smd-1-2", "smd-2-1", "smd-1-6", "skab", "msl-gru", *(f"asd-{k}" for k in (2, 4, 5, 6, 7, 9)))
DETECTORS = ("signature-energy", "mahalanobis", "sample-pca", "signature-pca", "ensemble")
MEANS = {"SMD 1-2, 2-1, 1-6": ("smd-1-2", "smd-2-1", "smd-1-6"), "ASD, six servers": STUDENTS[-6:]}


def reported(found: ModelScores) -> Report:
    """The report of a model's scores on its recording."""
    return evaluate_scores(found.recording, found.samples, found.scores, found.threshold, found.hop)


def row(name: str, detector: str, report: Report) -> dict[str, Any]:
    """The figures that are kept of one report."""
    figures = report.figures

    def value(key: str) -> float | None:
        return figures[key].value if key in figures else None

    random = figures["vus_pr"].random
    return {
        "recording": name,
        "detector": detector,
        "VUS-PR": value("vus_pr"),
        "random VUS-PR": f"{random.mean:.3f} ± {random.sd:.3f}" if random else "",
        "sd above random": figures["vus_pr"].sd_above_random,
        "AUC-PR": value("auc_pr"),
        "event recall": value("event_recall"),
        "false alarms a day": value("false_alarms_per_day"),
    }


def yardsticks(name: str, train: Recording, test: Recording) -> list[dict[str, Any]]:
    """Every linear detector, fitted to the same recording; MSL at the hop of its student."""
    rows = []
    settings = {"lengths": [10, 30, 60], "hop": 50} if name.startswith("msl") else {}
    for detector in DETECTORS:
        path = WORK / f"{name}-{detector}.pt"
        if not path.exists():
            distill(train, path, method="linear", preset=detector, settings=settings)
        rows.append(row(name, f"linear {detector}", reported(score_model(path, test))))
    return rows


def both_files(name: str, test: Recording) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The student's float and int8 files on its test recording, and how they differ."""
    checkpoint = Checkpoint.load(student(name))
    done, scores, reports = {}, {}, {}
    for int8 in (False, True):
        kind = "int8" if int8 else "float"
        done[kind] = export(checkpoint, WORK / f"{name}-{kind}.onnx", int8="default" if int8 else None, force=True)
        scores[kind] = score_model(done[kind].path, test)
        reports[kind] = reported(scores[kind])
    changed = scores["int8"].alarms != scores["float"].alarms  # each at its own threshold
    quality = {kind: reports[kind].figures["vus_pr"].value or 0.0 for kind in reports}
    compared = {
        "student": name,
        "preset": checkpoint.preset,
        "verdicts": len(scores["int8"].scores),
        "Spearman": float(spearmanr(scores["float"].scores, scores["int8"].scores).statistic),
        "VUS-PR float": quality["float"],
        "VUS-PR int8": quality["int8"],
        "change": quality["int8"] - quality["float"],
        "decisions changed": float(np.mean(changed)),
        "bytes float": done["float"].file_bytes,
        "bytes int8": done["int8"].file_bytes,
    }
    label = f"LTA {checkpoint.preset}"
    return [row(name, f"{label} {kind}", reports[kind]) for kind in ("int8", "float")], compared


@click.command()
@click.option("--data", type=click.Path(path_type=Path), envvar="EDGEKD_DATA", required=True, help="Data folder.")
@click.argument("names", nargs=-1)
def main(data: Path, names: tuple[str, ...]) -> None:
    """Measure, print and save; the rows of recordings that are not named stay as they were."""
    names = names or STUDENTS
    before = kept("quality")
    rows = [row for row in before.get("detection", []) if row["recording"] not in names]
    compared = [row for row in before.get("int8 against float", []) if row["student"] not in names]
    for name in names:
        if not student(name).exists():
            click.echo(f"{name}: not trained yet, left out; python -m bench.trained_students {name}", err=True)
            continue
        spec = str(data / PLANS[name].data)
        train, test = load(spec, "train"), load(spec, "test")
        files, comparison = both_files(name, test)
        compared.append(comparison)
        rows += files + yardsticks(name, train, test)
        print(table([comparison]), table(rows[-len(DETECTORS) - 2 :]), sep="\n\n", flush=True)
    means = [mean for title, members in MEANS.items() for mean in _means(title, members, rows)]
    print(table(compared), table(means) if means else "", sep="\n\n")
    save("quality", {"int8 against float": compared, "detection": rows, "means": means})


def _means(title: str, members: tuple[str, ...], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean over recordings of each detector, where all of them are there."""
    means = []
    for detector in dict.fromkeys(row["detector"] for row in rows):
        chosen = [row for row in rows if row["detector"] == detector and row["recording"] in members]
        if len(chosen) == len(members):
            figures = {key: float(np.mean([row[key] for row in chosen])) for key in ("VUS-PR", "AUC-PR")}
            means.append({"recordings": title, "detector": detector, **figures})
    return means


if __name__ == "__main__":
    main()
