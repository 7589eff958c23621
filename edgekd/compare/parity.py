"""Whether what was timed computes the same: every engine against torch, closed loop, on the same samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgekd.compare.subjects import Subject, samples_for
from edgekd.data.recording import Recording

STEPS = 10_000  # past the warm-up: errors that build up need time
FLOAT_TOLERANCE = 1e-4
"""What a float file is held to, as in its export; int8 is held to its self-test, which every start replays."""


def check(subjects: Sequence[Subject], recording: Recording | None, steps: int = STEPS) -> list[dict[str, Any] | None]:
    """Worst error and rank correlation of each subject against its reference; None for a reference or a loner.

    The reference is the torch student that an exported file came from, else the first float file of the same student.
    Each goes once through `steps` consecutive steps, its state fed back; a recording that is shorter is looped, without
    a reset. Errors are relative to max(|score|, threshold); a decision is made at each one's own threshold.
    """
    scores: dict[str, np.ndarray] = {}
    found: list[dict[str, Any] | None] = []
    for subject in subjects:
        reference = _reference(subject, subjects)
        if reference is None:
            found.append(None)
            continue
        samples = samples_for(subject, subjects, recording)
        for one in (reference, subject):
            if one.name not in scores:
                scores[one.name] = _scores(one, samples, steps)
        found.append(_compare(scores[subject.name], subject.threshold, scores[reference.name], reference))
    return found


def _reference(subject: Subject, subjects: Sequence[Subject]) -> Subject | None:
    rank = ("student", "float32", "int8")
    if subject.kind not in rank or not subject.digest:
        return None
    same = [other for other in subjects if other.digest == subject.digest and other.kind in rank]
    reference = min(same, key=lambda other: rank.index(other.kind))
    return None if reference is subject else reference


def _scores(subject: Subject, samples: np.ndarray, steps: int) -> np.ndarray:
    warm = subject.warmup_samples // subject.hop
    subject.feed(samples, hops=warm + steps)
    return np.array([subject.step() for _ in range(warm + steps)])[warm:]


def _compare(scores: np.ndarray, threshold: float, expected: np.ndarray, reference: Subject) -> dict[str, Any]:
    error = np.abs(scores - expected) / np.maximum(np.abs(expected), reference.threshold)
    away = np.abs(expected - reference.threshold) > FLOAT_TOLERANCE * reference.threshold
    changed = away & ((scores > threshold) != (expected > reference.threshold))
    return {
        "against": reference.name,
        "steps": len(scores),
        "max_score_error": float(error.max()),
        "rank_correlation": _spearman(scores, expected),
        "changed_decisions": float(changed.mean()),
    }


def _spearman(a: np.ndarray, b: np.ndarray) -> float | None:
    """Rank correlation, equal values sharing their mean rank; None where either is constant. A device has no SciPy."""
    ranks_a, ranks_b = _ranks(a), _ranks(b)
    if ranks_a.std() == 0 or ranks_b.std() == 0:
        return None
    return float(np.corrcoef(ranks_a, ranks_b)[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]
