"""One detector on one series of the UCR archive: was its anomaly found?

A cell is a detector, a share of the training data, a seed and a series. The cells of one detector are kept together, as
bench/results/anomalyllm/LABEL.json, with a digest of all of its settings, so that a changed one is run again. One
process runs all detectors of a series, so that what teaches two of them is trained once.
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

from bench.results import RESULTS, changed, digest, write_json
from edgekd.blocks.step import Scores, StepModule
from edgekd.data import Recording, load
from edgekd.distillation import configure
from edgekd.evaluation.ucr_score import near_enough, ucr_reference, ucr_strict
from edgekd.methods import method
from edgekd.methods.interface import Training
from edgekd.runtime.errors import RecordingError

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
    """Settings of the AnomalyLLM detector that teaches it, a mini-teacher or a student of the score alone."""
    share: float = 1.0
    """Of the training data, the newest part of it."""
    seed: int = 0

    @property
    def digest(self) -> str:
        if self.kind != "model":
            return digest(asdict(self))
        given = [(self.method, self.preset, self.settings)]
        given += [("anomalyllm", PRESET, self.teacher)] if self.teacher is not None else []
        return digest([asdict(self), [changed(configure(*one)[2]) for one in given]])

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
        write_json(self.path, content)


def run_missing(data: Path, wanted: dict[str, list[Detector]], workers: int, device: str) -> None:
    """Run the cells that are not there, the detectors that are wanted for each series, several series at once; those of
    a series are kept as soon as they are done."""
    kept = {detector.label: detector.kept() for detectors in wanted.values() for detector in detectors}
    missing = {item: [d for d in detectors if item not in kept[d.label]] for item, detectors in wanted.items()}
    with ProcessPoolExecutor(workers) as pool:
        waiting = {pool.submit(run_series, data, own, item, device): item for item, own in missing.items() if own}
        for done, future in enumerate(as_completed(waiting), 1):
            item = waiting[future]
            for detector, cell in zip(missing[item], future.result()):
                kept[detector.label][item] = cell
                detector.keep(kept[detector.label])
                print(f"{done}/{len(waiting)} {detector.label} {item}: {cell}", flush=True)


def run_series(data: Path, detectors: list[Detector], item: str, device: str) -> list[dict[str, Any]]:
    """The cells of one series."""
    return [run_cell(data, detector, item, device) for detector in detectors]


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
    *_, config = configure(detector.method, detector.preset, detector.settings)
    if detector.teacher is not None:
        *_, taught = configure("anomalyllm", PRESET, detector.teacher)
        teacher = _full(train, taught, detector.seed, device)
        how = Training(seed=detector.seed, device=device, teacher=teacher, teachers=(teacher,))
        step = method(detector.method).train(train, config, how).step
    elif detector.method == "anomalyllm":
        step = _full(train, config, detector.seed, device)
    else:
        step = method(detector.method).train(train, config, Training(seed=detector.seed, device=device)).step
    found = step.score(whole, np.arange(len(whole)) >= first)
    return found, step.hop, {"parameters": step.parameters_learned}


_last: dict[tuple[str, ...], StepModule] = {}
REMEMBERED = 4  # full detectors: those of one series that others learn from


def _full(train: Recording, config: Any, seed: int, device: str) -> StepModule:
    """A full detector, trained once for those that learn from it soon after."""
    key = (train.digest(), str(config), str(seed), device)
    if key not in _last:
        while len(_last) >= REMEMBERED:
            del _last[next(iter(_last))]
        _last[key] = method("anomalyllm").train(train, config, Training(seed=seed, device=device)).step
    return _last[key]


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
