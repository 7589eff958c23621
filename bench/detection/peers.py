"""Our detectors beside other people's: same data, same metric, one run.

    python -m bench.detection.peers --data DIR [--set SET] [--longest SAMPLES] [PEER ...]

The entities are the confirm part of `bench.detection.innovations`, those of at most SAMPLES samples in training. The
peers run in an environment of their own, which this makes (TSB-AD wants NumPy 1); `peers_worker.py` says how each is
fitted. What is done is kept in the result file. Recall: events found at the highest threshold with at most one alarm a
day on the same recording, which needs its labels; for all alike.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np
import torch

from bench.detection.innovations import SETS, Entity
from bench.detection.peers_worker import CALLS, PEERS
from bench.results import WORK, kept, rounded, save, table
from edgekd.checkpoint import Checkpoint
from edgekd.distillation import distill
from edgekd.evaluation.protocols import protocols
from edgekd.export import export
from edgekd.runtime.detector import Detector

RESULT = "peers"
ENVIRONMENT = WORK / "peers-environment"
PACKAGES = ("tsb-ad==1.5", "river==0.23.0", "stumpy==1.14.1", "pyod==3.6.7", "scikit-learn==1.5.2")
OURS = ("innovations", "ensemble", "mahalanobis")
PUBLIC = ("SMD", "ASD", "SKAB", "MSL", "SMAP")
FEW = ("ASD", "SKAB", "MSL")
"""Where the networks among the peers have run, too, which train for minutes on each entity."""
PATIENCE_S = 3600.0  # for one of them on one entity


def python() -> Path:
    """Of the peers' environment."""
    found = ENVIRONMENT / "bin" / "python"
    if not found.exists():
        subprocess.run([sys.executable, "-m", "venv", ENVIRONMENT], check=True)
        subprocess.run([found, "-m", "pip", "install", "-q", *PACKAGES], check=True)
    return found


def entities(data: Path, sets: tuple[str, ...], longest: int) -> Iterator[Entity]:
    """Those that can be judged."""
    for name in sets or PUBLIC:
        for entity in SETS[name](data):
            labels = entity.test.labels
            known = labels is not None and labels.any() and not labels.all()
            if entity.part == "confirm" and known and len(entity.train) <= longest:
                yield entity


def of_peer(entity: Entity, name: str) -> dict[str, Any]:
    """Figures of one peer on one entity, or why it gives none."""
    test = entity.test
    with TemporaryDirectory() as folder:
        given, told = Path(folder) / "given.npz", Path(folder) / "told.npz"
        np.savez(
            given, train=entity.train.values.astype(float), test=test.values.astype(float), labels=test.labels
        )  # fmt: skip
        worker = Path(__file__).with_name("peers_worker.py")
        try:
            subprocess.run([python(), worker, name, given, told], check=True, capture_output=True, timeout=PATIENCE_S)
        except subprocess.CalledProcessError as error:
            return {"failed": error.stderr.decode().strip().splitlines()[-1][:200]}
        except subprocess.TimeoutExpired:
            return {"failed": f"took more than {PATIENCE_S:.0f} s"}
        with np.load(told) as found:
            scores = found["scores"]
            facts = {key: float(found[key]) for key in found.files if key != "scores"}
    figures = _figures(entity, np.arange(len(test)), scores, 1)
    return {
        **figures, "fit_s": facts["fit_s"], "us_a_sample": 1e6 * facts["score_s"] / len(test), "bytes": facts["bytes"],
        "us_a_call": 1e6 * facts["call_s"] if np.isfinite(facts["call_s"]) else None,
        "vus_pr_of_tsb_ad": facts["vus_pr"] if np.isfinite(facts["vus_pr"]) else None,
    }  # fmt: skip


def of_ours(entity: Entity, preset: str, timed: bool) -> dict[str, float]:
    """Figures of one of our detectors; `timed`: time and size of the exported file, too."""
    settings = {} if entity.judged is None else {"judged": entity.judged}
    with TemporaryDirectory() as folder:
        begun = time.process_time()
        student = distill(entity.train, Path(folder) / "m.pt", method="linear", preset=preset, settings=settings)
        fit_s = time.process_time() - begun
        step = Checkpoint.load(Path(folder) / "m.pt").step()
        found = step.score(entity.test)
        figures = {**_figures(entity, found.samples, found.scores, step.hop), "fit_s": fit_s}
        if not timed:
            return figures
        file = export(student, Path(folder) / "m.onnx", steps=100)
        detector = Detector.load(file.path, check=False)
        begun = time.process_time()
        detector.update_block(entity.test.values)
        between = time.process_time()
        few = entity.test.values[:CALLS]
        for sample in few:
            detector.update(sample)
        us, call_us = 1e6 * (between - begun) / len(entity.test), 1e6 * (time.process_time() - between) / len(few)
    return {**figures, "us_a_sample": us, "us_a_call": call_us, "bytes": float(file.file_bytes)}


def _figures(entity: Entity, samples: np.ndarray, scores: np.ndarray, hop: int) -> dict[str, float]:
    told = protocols(entity.test, samples, scores.astype(np.float64), hop)
    return {"vus_pr": told["vus_pr"], "recall": told["event_recall_at_1_per_day"]}


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row a detector, best first; of those that have run on every entity that any has run on."""
    known = {(row["set"], row["entity"]) for row in rows}
    found = []
    for name in dict.fromkeys(row["detector"] for row in rows):
        tried = [row for row in rows if row["detector"] == name]
        if {(row["set"], row["entity"]) for row in tried} != known:
            continue
        mine = [row for row in tried if "failed" not in row]
        sets = {key: of_set for key in PUBLIC if (of_set := [row for row in mine if row["set"] == key])}
        figures: dict[str, Any] = {"detector": name, "entities": len(mine), "failed": len(tried) - len(mine)}
        figures |= {key: float(np.mean([row["vus_pr"] for row in of_set])) for key, of_set in sets.items()}
        for key, words in (("vus_pr", "mean of sets"), ("recall", "recall at 1 a day")):
            figures[words] = float(np.mean([np.mean([row[key] for row in of_set]) for of_set in sets.values()]))
        for key, words in (
            ("us_a_sample", "µs a sample"), ("us_a_call", "one a call"), ("bytes", "bytes"), ("fit_s", "fit, s"),
        ):  # fmt: skip
            told = [row[key] for row in mine if row.get(key) is not None]
            figures[words] = float(np.median(told)) if told else None
        found.append(figures)
    return sorted(found, key=lambda row: -row["mean of sets"])


@click.command()
@click.option("--data", type=click.Path(path_type=Path), envvar="EDGEKD_DATA", required=True, help="Data folder.")
@click.option("--set", "sets", multiple=True, type=click.Choice(PUBLIC), help="Only this one; may be repeated.")
@click.option("--longest", default=30_000, show_default=True, help="Entities with at most so many samples in training.")
@click.argument("peers", nargs=-1, type=click.Choice([*OURS, *PEERS]))
def main(data: Path, sets: tuple[str, ...], longest: int, peers: tuple[str, ...]) -> None:
    """Measure what is missing, print and save."""
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = kept(RESULT).get("entities", [])
    for name in peers or (*OURS, *PEERS):
        for entity in entities(data, sets, longest):
            key = {"set": entity.set, "entity": entity.name, "detector": name}
            if any(row.items() >= key.items() for row in rows):
                continue
            timed = not any(row["set"] == entity.set and row["detector"] == name for row in rows)
            told = of_ours(entity, name, timed) if name in OURS else of_peer(entity, name)
            rows.append({**key, **told})
            print(entity.set, entity.name, name, told, flush=True)
            compared = [
                abs(row["vus_pr"] - theirs) for row in rows if (theirs := row.get("vus_pr_of_tsb_ad")) is not None
            ]
            few = [row for row in rows if row["set"] in FEW]
            figures = {"detectors": summary(rows), "few": summary(few), "entities": rows}
            save(RESULT, rounded({"largest_vus_pr_difference": max(compared, default=None), **figures}))
    print(table(summary(rows)))


if __name__ == "__main__":
    main()
