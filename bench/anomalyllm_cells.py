"""One detector on one series of the UCR archive: was its anomaly found?

A cell is a detector, a share of the training data, a seed and a series. The cells of one detector are kept together, as
bench/results/anomalyllm/LABEL.json, each with a digest of the detector's settings, so that a changed one is run again.
"""

from __future__ import annotations

import csv
import json
import random
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench.results import RESULTS, digest
from edgekd.data import Recording, load
from edgekd.evaluation.archive import near_enough, ucr_reference, ucr_strict
from edgekd.runtime.errors import RecordingError
from edgekd.step import Scores, StepModule

CELLS = RESULTS / "anomalyllm"
CHOSEN = 60
CHOICE_SEED = 0
WINDOW = 64  # samples; of the method, and of PCA
SUBSEQUENCE = 100  # of the matrix profile: what the archive calls near enough
COMPONENTS = 10
FITTED_WINDOWS = 4096
HOP = 4  # of the baselines


def chosen_series(data: Path, count: int = CHOSEN) -> list[str]:
    """Numbers of the series that are measured: drawn by a seed before any run, the first `count` of one order."""
    with (data / "ucr" / "index.csv").open(newline="", encoding="utf-8") as file:
        everything = sorted(row["id"] for row in csv.DictReader(file))
    return random.Random(CHOICE_SEED).sample(everything, len(everything))[:count]


def families(data: Path) -> dict[str, str]:
    """The family of every series."""
    with (data / "ucr" / "index.csv").open(newline="", encoding="utf-8") as file:
        return {row["id"]: row["category"] for row in csv.DictReader(file)}


@dataclass(frozen=True)
class Detector:
    """What is run on a series, and how much of the normal data it gets."""

    label: str
    kind: str
    """"model", "matrix profile" or "pca"."""
    method: str = ""
    preset: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    teacher: dict[str, Any] | None = None
    """Settings of the AnomalyLLM detector that teaches a score-only student."""
    share: float = 1.0
    """Of the training data, the newest part of it."""
    seed: int = 0

    @property
    def digest(self) -> str:
        return digest(asdict(self))

    @property
    def path(self) -> Path:
        return CELLS / f"{self.label}.json"

    def kept(self) -> dict[str, dict[str, Any]]:
        """The cells that were run with these settings, by series."""
        if not self.path.exists():
            return {}
        found = json.loads(self.path.read_text())
        return found["cells"] if found["digest"] == self.digest else {}

    def keep(self, cells: dict[str, dict[str, Any]]) -> None:
        CELLS.mkdir(parents=True, exist_ok=True)
        content = {"digest": self.digest, "detector": asdict(self), "cells": dict(sorted(cells.items()))}
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps(content, indent=1) + "\n")
        new.replace(self.path)


def run_missing(data: Path, detectors: list[Detector], series: list[str], workers: int, device: str) -> None:
    """Run the cells that are not there, several at once; each is kept as soon as it is done."""
    kept = {detector.label: detector.kept() for detector in detectors}
    missing = [(d, item) for item in series for d in detectors if item not in kept[d.label]]
    if not missing:
        return
    with ProcessPoolExecutor(workers) as pool:
        waiting = {pool.submit(run_cell, data, detector, item, device): (detector, item) for detector, item in missing}
        for done, future in enumerate(as_completed(waiting), 1):
            detector, item = waiting[future]
            kept[detector.label][item] = future.result()
            detector.keep(kept[detector.label])
            print(f"{done}/{len(missing)} {detector.label} {item}: {future.result()}", flush=True)


def run_cell(data: Path, detector: Detector, item: str, device: str = "cpu") -> dict[str, Any]:
    """Train on the normal beginning of a series, score the rest, and ask where the highest score lies."""
    import torch

    torch.set_num_threads(1)
    whole, train = (load(f"{data / 'ucr' / 'UCR.npz'}#{item}", part) for part in (None, "train"))
    first = len(train)
    train = train.slice(first - max(2, round(detector.share * first)), first)
    assert whole.labels is not None
    began = time.process_time()
    try:
        found, hop, more = SCORERS[detector.kind](detector, train, whole, first, device)
    except RecordingError as error:  # so little was left that there is nothing to train on: nothing is found
        return {"strict": False, "reference": False, "chance": 0.0, "cpu_s": 0.0, "refused": str(error)}
    begin, end = np.flatnonzero(whole.labels)[[0, -1]].tolist()
    where = (found.samples, found.scores, hop, begin, end)
    return {
        "strict": ucr_strict(*where), "reference": ucr_reference(*where),
        "chance": round(float(near_enough(found.samples, hop, begin, end).mean()), 4),
        "cpu_s": round(time.process_time() - began, 1), **more,
    }  # fmt: skip


# -- detectors ---------------------------------------------------------------------------------------------------------

Found = tuple[Scores, int, dict[str, Any]]
"""Verdicts on the samples after the training part, their hop, and what else is told of the cell."""


def by_model(detector: Detector, train: Recording, whole: Recording, first: int, device: str) -> Found:
    """A method of the package."""
    from edgekd.distillation import configure
    from edgekd.methods import method
    from edgekd.methods.door import Training

    how = Training(seed=detector.seed, device=device)
    if detector.teacher is not None:
        _, config = configure("anomalyllm", PRESET, detector.teacher)
        teacher = method("anomalyllm").train(train, config, how).step
        how = Training(seed=detector.seed, device=device, teacher=teacher, teachers=(teacher,))
    _, config = configure(detector.method, detector.preset, detector.settings)
    step: StepModule = method(detector.method).train(train, config, how).step
    found = step.score(whole, np.arange(len(whole)) >= first)
    return found, step.hop, {"parameters": step.parameters_learned}


def by_matrix_profile(detector: Detector, train: Recording, whole: Recording, first: int, device: str) -> Found:
    """Distance of every subsequence to its nearest neighbor in the training part (Yeh et al. 2016), z-normalized."""
    import stumpy

    test = whole.values[first - SUBSEQUENCE + 1 :, 0].astype(np.float64)
    if len(train) < SUBSEQUENCE:
        return _spread(np.zeros(len(whole) - first), first), HOP, {}
    profile = stumpy.stump(test, SUBSEQUENCE, train.values[:, 0].astype(np.float64), ignore_trivial=False)[:, 0]
    # a subsequence is told of at its newest sample, and its middle is where it is strange
    middle = np.roll(np.nan_to_num(profile.astype(np.float64), posinf=0.0), -SUBSEQUENCE // 2)
    middle[-SUBSEQUENCE // 2 :] = 0.0
    return _spread(middle, first), HOP, {}


def by_pca(detector: Detector, train: Recording, whole: Recording, first: int, device: str) -> Found:
    """Squared residual of windows outside the principal subspace of the training windows."""
    from sklearn.decomposition import PCA

    windows = np.lib.stride_tricks.sliding_window_view(train.values[:, 0].astype(np.float64), WINDOW)
    windows = windows[:: -(-len(windows) // FITTED_WINDOWS)]
    pca = PCA(min(COMPONENTS, len(windows) - 1)).fit(windows)
    tested = np.lib.stride_tricks.sliding_window_view(whole.values[first - WINDOW + 1 :, 0].astype(np.float64), WINDOW)
    residual = np.concatenate([_residual(pca, part) for part in np.array_split(tested, -(-len(tested) // 8192))])
    return _spread(residual, first), HOP, {"parameters": int(pca.components_.size)}


def _residual(pca: Any, windows: np.ndarray) -> np.ndarray:
    return np.square(windows - pca.inverse_transform(pca.transform(windows))).sum(1)


def _spread(scores: np.ndarray, first: int) -> Scores:
    """A score for each sample from `first` on -> the largest of each hop, at its newest sample."""
    whole = len(scores) // HOP * HOP
    samples = first + HOP * np.arange(1, whole // HOP + 1) - 1
    return Scores(samples, scores[:whole].reshape(-1, HOP).max(1).astype(np.float32), np.zeros((whole // HOP, 1)))


PRESET = "quick"  # of AnomalyLLM: what two cores can train for sixty series and three inits
SCORERS: dict[str, Callable[[Detector, Recording, Recording, int, str], Found]] = {
    "model": by_model, "matrix profile": by_matrix_profile, "pca": by_pca,
}  # fmt: skip
