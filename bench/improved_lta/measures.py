"""Figures of one detector over the reported machines or channels of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.signal import lfilter

from bench.improved_lta.entities import LENGTHS, Entity, Terms
from edgekd.blocks.score_terms import TINY
from edgekd.blocks.threshold import CALIBRATE, FIT, MARGIN, parts
from edgekd.data import Recording
from edgekd.data.request import join
from edgekd.evaluation.events import point_scores
from edgekd.evaluation.metrics import auc_pr, vus_pr
from edgekd.evaluation.protocols import protocols
from edgekd.runtime.errors import UsageError


@dataclass(frozen=True)
class Verdicts:
    """One detector on one entity's test recording."""

    samples: np.ndarray
    """int64 (V,), newest sample of each."""
    scores: np.ndarray
    """float64 (V,), in units of the entity's own threshold, which comes from normal data alone."""


def combined(entity: Entity, found: dict[str, Terms], names: Sequence[str], memory: int = 1) -> Verdicts:
    """Some terms of a student's score, as the step module makes one of them: the geometric mean, weighted by their
    spread on windows that trained, and the moving average of its logarithm."""
    train, test = found["train"], found["test"]
    part = parts(entity.train)[train.samples]
    own, new = (
        np.log(np.maximum(np.stack([terms.scores[name] for name in names], 1), TINY)) for terms in (train, test)
    )
    fitted = own[(part == FIT) & train.warm]
    weight = 1.0 / np.maximum(fitted.std(0), 1e-3)
    own, new = (averaged((logs - fitted.mean(0)) @ weight / weight.sum(), memory) for logs in (own, new))
    return calibrated(own[(part == CALIBRATE) & train.warm], test.samples[test.warm], new[test.warm])


def averaged(logs: np.ndarray, memory: int) -> np.ndarray:
    """Moving average of log scores (V,) from a cold start at the normal mean, see `LTAStep.lasting`."""
    return lfilter([1 / memory], [1, 1 / memory - 1], logs)


def as_it_is(entity: Entity, found: dict[str, Terms]) -> Verdicts:
    """The detector's own score."""
    train, test = found["train"], found["test"]
    own, new = (np.log(np.maximum(terms.scores["score"].astype(np.float64), TINY)) for terms in (train, test))
    return calibrated(own[parts(entity.train)[train.samples] == CALIBRATE], test.samples, new)


def calibrated(setting: np.ndarray, samples: np.ndarray, logs: np.ndarray) -> Verdicts:
    """Log scores (V,) in units of the threshold: the usual margin over the largest normal score that did not train."""
    if not len(setting):
        raise UsageError("no score in the part that sets the threshold")
    return Verdicts(samples, np.exp(np.clip(logs - setting.max() - np.log(MARGIN), -300, 300)))


def every(entity: Entity, verdicts: Verdicts, hops: int) -> Verdicts:
    """One verdict in `hops`, as a detector with a longer hop gives them."""
    hop = LENGTHS[entity.dataset][0]
    chosen = (verdicts.samples + 1) % (hop * hops) == 0
    return Verdicts(verdicts.samples[chosen], verdicts.scores[chosen])


def ranking(entity: Entity, verdicts: Verdicts, hop: int) -> dict[str, float]:
    """Measures of one entity that need no threshold."""
    assert entity.test.labels is not None
    points, _ = point_scores(verdicts.samples, verdicts.scores, hop, len(entity.test))
    return {"VUS-PR": vus_pr(entity.test.labels, points), "AUC-PR": auc_pr(entity.test.labels, points)}


def together(entities: Sequence[Entity]) -> Recording:
    """Their test recordings, one after the other."""
    return join([replace(entity.test, sensors=tuple(map(str, range(entity.test.n_sensors)))) for entity in entities],
                [""] * len(entities))  # fmt: skip


def under_all_protocols(
    recording: Recording, verdicts: Sequence[Verdicts], hop: int, threshold: float | None = 1.0
) -> dict[str, Any]:  # fmt: skip
    """See `protocols`; each entity at its own threshold, or at none."""
    samples = np.concatenate([one.samples + start for one, start in zip(verdicts, recording.starts)])
    return protocols(recording, samples, np.concatenate([one.scores for one in verdicts]), hop, threshold)
