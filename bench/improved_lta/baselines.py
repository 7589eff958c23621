"""What a practitioner would try first, on the machines and channels that the improved LTA is measured on.

Every detector is fitted to the same normal part of the same entity, with the windows and the hop of the student there.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from sklearn.ensemble import IsolationForest

from bench.improved_lta.entities import LENGTHS, PLANTS, TRAINED, Entity, Terms
from edgekd.blocks.threshold import FIT, parts
from edgekd.data import Recording
from edgekd.methods.linear import PRESETS
from edgekd.methods.linear.fit import fit_linear
from edgekd.runtime.errors import RecordingError
from edgekd.runtime.files import atomic

RECENT = 10  # newest samples that detectors on samples average over, as `linear` does
LINEAR = {
    "Mahalanobis": "mahalanobis",
    "PCA on samples": "sample-pca",
    "energy of signature matrices": "signature-energy",
    "PCA on signature matrices": "signature-pca",
}
SAMPLES = ("z-score energy", "isolation forest")
CHEAP = (*SAMPLES, *LINEAR)
FOREST_SEEDS = 3


def measured_only(entity: Entity) -> Entity:
    """The entity with the sensors alone that its student judges."""
    names = PLANTS[entity.dataset].get("judged")
    if names is None:
        return entity

    def narrowed(recording: Recording) -> Recording:
        columns = [recording.sensors.index(name) for name in names]
        return replace(recording, values=np.ascontiguousarray(recording.values[:, columns]), sensors=tuple(names))

    return replace(entity, train=narrowed(entity.train), test=narrowed(entity.test))


def baseline(entity: Entity, detector: str, measured: bool, seed: int = 0) -> dict[str, Terms]:
    """Scores of one detector on the entity's "train" and "test" recordings, computed once and kept.

    measured: give it the sensors alone that the student judges. Where nothing varies in training a detector that drops
    constant sensors has nothing to look at: its scores are all zero.
    """
    name = detector.replace(" ", "-") + ("-measured" if measured else "") + (f"-s{seed}" if seed else "")
    path = TRAINED / f"{entity.dataset}-{entity.name}-{name}.npz"
    if not path.exists():
        TRAINED.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # principal axes of what does not vary
            found = _scores(measured_only(entity) if measured else entity, detector, measured, seed)
        with atomic(path) as file:
            np.savez_compressed(file, **found)  # type: ignore[arg-type]
    with np.load(path) as arrays:
        return {
            part: Terms(arrays[f"{part}/samples"], {"score": arrays[f"{part}/score"]}) for part in ("train", "test")
        }


def _scores(entity: Entity, detector: str, measured: bool, seed: int) -> dict[str, np.ndarray]:
    hop = LENGTHS[entity.dataset][0]
    try:
        score = (
            _on_samples(entity, detector, measured, seed)
            if detector in SAMPLES
            else _linear(entity, detector, measured)
        )
    except RecordingError:
        score = None
    found = {}
    for part, recording in (("train", entity.train), ("test", entity.test)):
        samples = np.arange(-(-RECENT // hop) * hop, len(recording) + 1, hop) - 1
        scored = (samples, np.zeros(len(samples))) if score is None else score(recording, samples)
        found[f"{part}/samples"], found[f"{part}/score"] = scored
    return found


Scorer = Callable[[Recording, np.ndarray], tuple[np.ndarray, np.ndarray]]


def _linear(entity: Entity, detector: str, measured: bool) -> Scorer:
    plant = PLANTS[entity.dataset]
    judged = tuple(plant["judged"]) if measured and "judged" in plant else None
    config = replace(PRESETS[LINEAR[detector]], judged=judged)
    with torch.inference_mode():
        windows = int((parts(entity.train) == FIT).sum() - LENGTHS[entity.dataset][-1]) // LENGTHS[entity.dataset][0]
        # the shortest channels have fewer windows than components
        components = min(config.signature_components, max(1, windows // 2))
        step = fit_linear(entity.train, replace(config, signature_components=components), seed=0)

    def score(recording: Recording, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = step.score(recording)
        return found.samples, found.scores

    return score


def _on_samples(entity: Entity, detector: str, measured: bool, seed: int) -> Scorer:
    """Detectors of single samples: the mean over the newest ones."""
    fitted = entity.train.values[parts(entity.train) == FIT].astype(np.float64)
    varying = np.ptp(fitted, axis=0) > 0
    if not varying.any() and not measured:
        raise RecordingError(f"{entity.name}: every sensor is constant in training")
    kept = varying | measured
    mean, deviation = fitted[:, kept].mean(0), np.where(varying, fitted.std(0), 1.0)[kept]
    forest = IsolationForest(random_state=seed).fit(fitted[:, kept]) if detector == "isolation forest" else None

    def score(recording: Recording, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values = recording.values[:, kept]
        each = (((values - mean) / deviation) ** 2).mean(1) if forest is None else -forest.score_samples(values)  # (T,)
        total = np.concatenate([[0.0], np.cumsum(each)])
        return samples, (total[samples + 1] - total[samples + 1 - RECENT]) / RECENT

    return score
