"""AnomalyLLM on recordings of many sensors, beside the other methods, by the same measures and by affiliation.

    python -m bench.anomalyllm.multivariate --data DIR [NAME ...]

Detectors are trained on the normal part and alarm above a threshold that comes from it. Rows that are there are not
measured again. Students of the other methods stand beside where bench.trained_students or bench.regression.series left
them in bench/trained. Of SMAP the first channels by name are taken, as one recording.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np

from bench.anomalyllm.cells import PRESET
from bench.anomalyllm.tables import INITS
from bench.results import WORK, changed, digest, kept, save, table
from bench.trained_students import student
from edgekd.data import Recording, load
from edgekd.distillation import configure, distill
from edgekd.evaluation.affiliation import best_affiliation
from edgekd.evaluation.chance import random_scores
from edgekd.evaluation.report import Spread, evaluate_scores
from edgekd.evaluation.score_model import ModelScores, score_model

SMAP_CHANNELS = 15
SETS: dict[str, dict[str, str]] = {
    "ASD": {f"asd-{k}": f"asd/omi-{k}.npz" for k in (2, 4, 5, 6, 7, 9)},
    "SMD": {f"smd-{k}": f"smd/machine-{k}.npz" for k in ("1-2", "2-1", "1-6")},
    "MSL": {"msl": "smap_msl/MSL.npz"},
    "SMAP": {"smap": "smap_msl/SMAP.npz"},
}
PATHS = {name: path for members in SETS.values() for name, path in members.items()}
POOLED = {"lengths": [10, 30, 60], "hop": 50}
"""Of the linear detector on spacecraft channels, as in bench.detection.real_recordings."""
FEWER = {"windows": 256, "draws": 1, "updates": 300}
"""Over the preset: every sensor passes the student by itself, so a window of fifty costs as much there as fifty."""
HOPS = {"ASD": 16, "SMD": 32, "MSL": 64, "SMAP": 64}
TRAINED = {"LTA": "msl-gru.pt", "regression": "regression-msl-gru-0.pt"}
DRAWS = 5  # of random scores
FIGURES = {
    "VUS-PR": "vus_pr", "event recall": "event_recall", "false alarms a day": "false_alarms_per_day",
    "PA F1, best": "best_pa_f1", "affiliation precision": "affiliation_precision",
    "affiliation recall": "affiliation_recall", "affiliation F1": "affiliation_f1",
}  # fmt: skip
BEST = "affiliation F1, best"


def recording(data: Path, name: str, part: str) -> Recording:
    """A part of a recording by its name here."""
    found = load(str(data / PATHS[name]), part)
    return found.slice(0, found.starts[SMAP_CHANNELS]) if name == "smap" else found


def detectors(name: str) -> dict[str, tuple[Path, dict[str, Any]]]:
    """Every detector's checkpoint, and how it is trained where it is missing; nothing where that is not done here."""
    hop = next(HOPS[title] for title, members in SETS.items() if name in members)
    own = {}
    for init in INITS:
        how = {"method": "anomalyllm", "preset": PRESET, "settings": {"teacher_init": init, "hop": hop, **FEWER}}
        own[f"AnomalyLLM {init}"] = WORK / f"{name}-anomalyllm-{init}-{digest(changed(configure(**how)[2]))}.pt", how
    pooled = {"settings": POOLED} if name in ("msl", "smap") else {}
    linear = (WORK / f"{name}-anomalyllm-linear.pt", {"method": "linear", "preset": "ensemble", **pooled})
    others = {"LTA": student(name), "regression": WORK / f"regression-{name}-0.pt"}
    if name == "msl":
        others = {method: WORK / file for method, file in TRAINED.items()}
    return {**own, "linear ensemble": linear, **{key: (path, {}) for key, path in others.items() if path.exists()}}


def row(name: str, detector: str, file: str, found: ModelScores) -> dict[str, Any]:
    """All figures of one detector, in a file by this name, on one recording; those of random scores after them."""
    of = found.recording
    assert of.labels is not None
    report = evaluate_scores(of, found.samples, found.scores, found.threshold, found.hop, chance_runs=DRAWS)
    figures = {words: report.figures[key] for words, key in FIGURES.items()}
    values: dict[str, Any] = {words: figure.value for words, figure in figures.items()}
    chance = {f"{words}, random": f.random.mean if f.random else None for words, f in figures.items()}
    where: dict[str, Any] = {"hop": found.hop, "starts": of.starts}
    values[BEST] = best_affiliation(of.labels, found.samples, found.scores, **where)[2]
    drawn = [
        best_affiliation(of.labels, found.samples, random_scores(len(found.samples), seed), **where)[2]
        for seed in range(DRAWS)
    ]
    spread = Spread.of(drawn)
    chance[f"{BEST}, random"] = spread.mean if spread else None
    return {"recording": name, "detector": detector, "file": file, **values, **chance}


def means(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The mean over a set's recordings of each detector that was measured on all of them, random scores in brackets."""
    found = []
    for title, members in SETS.items():
        for detector in dict.fromkeys(r["detector"] for r in rows):
            own = [r for r in rows if r["detector"] == detector and r["recording"] in members]
            if len(own) == len(members):
                figures = {w: f"{_mean(own, w)} ({_mean(own, f'{w}, random')})" for w in (*FIGURES, BEST)}
                found.append({"set": title, "recordings": len(own), "detector": detector, **figures})
    return found


def _mean(rows: list[dict[str, Any]], key: str) -> str:
    """Of the recordings where the figure is defined; "-" where it is for none."""
    values = [r[key] for r in rows if r[key] is not None]
    return f"{np.mean(values):.3g}" if values else "-"


@click.command()
@click.option("--data", type=click.Path(path_type=Path), envvar="EDGEKD_DATA", required=True, help="Data folder.")
@click.option("--device", default="auto", show_default=True, help="Where networks train.")
@click.argument("names", nargs=-1, type=click.Choice(list(PATHS)))
def main(data: Path, device: str, names: tuple[str, ...]) -> None:
    """Train what is missing, measure it, save after every row."""
    WORK.mkdir(exist_ok=True)
    known = {path.name for name in PATHS for path, _ in detectors(name).values()}
    rows = [r for r in kept("anomalyllm_multivariate").get("rows", []) if r["file"] in known]
    for name in names or PATHS:
        done = {r["file"] for r in rows if r["recording"] == name}
        missing = {detector: how for detector, how in detectors(name).items() if how[0].name not in done}
        if not missing:
            continue
        test = recording(data, name, "test")
        for detector, (path, how) in missing.items():
            if not path.exists():
                distill(recording(data, name, "train"), path, device=device, **how)
            rows.append(row(name, detector, path.name, score_model(path, test)))
            print(table(rows[-1:]), flush=True)
            save(
                "anomalyllm_multivariate", {"means": means(rows), "rows": rows}, preset=PRESET, seed=0,
                settings=FEWER, hops=HOPS, smap_channels=SMAP_CHANNELS, random_draws=DRAWS,
            )  # fmt: skip
    print(table(means(rows)))


if __name__ == "__main__":
    main()
