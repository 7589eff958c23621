"""Any teacher of a series: what it says of a recording, and the one score that several teachers agree on.

A teacher is a step module (of any method), an object of the user's own with `score_samples` or `decision_function`
(scikit-learn, PyOD), or scores that stand beside the recording. All of them come down to a score for each sample, NaN
where nothing was said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from edgekd.blocks.step import StepModule
from edgekd.data.recording import Recording
from edgekd.methods.interface import Scorer, Training
from edgekd.methods.regression.score_scale import TINY
from edgekd.runtime.errors import ModelRefused, UsageError
from edgekd.torch_file import first_line, load_safely, save_atomically, weights_digest

if TYPE_CHECKING:
    pass

LARGEST_LOG = 60.0  # of a score made from one that is not positive


class StepScorer:
    """A trained detector: each verdict stands at the newest sample that it has seen."""

    def __init__(self, step: StepModule, workdir: Path | None = None) -> None:
        """workdir: where scores are kept, since a large teacher takes minutes for each recording."""
        self.step, self.name, self.workdir = step, "the teacher", workdir

    def __call__(self, recording: Recording) -> np.ndarray:
        if self.workdir is None:
            return self._score(recording)
        about = weights_digest(
            f"{recording.digest()} {sorted(self.step.config.to_json().items())}", self.step.state_dict()
        )
        path = self.workdir / f"scores-{about[:16]}"
        if not path.exists():
            save_atomically(torch.from_numpy(self._score(recording)), path)
        try:
            return load_safely(path).numpy()
        except UsageError:
            raise
        except Exception as error:  # torch raises many kinds for what it has not written
            raise ModelRefused(f"{path}: cannot be resumed ({first_line(error)}); remove it") from None

    def _score(self, recording: Recording) -> np.ndarray:
        found = self.step.score(recording)
        scores = np.full(len(recording), np.nan)
        scores[found.samples] = found.scores
        return scores


class ObjectScorer:
    """A fitted object with `score_samples` or `decision_function`: scikit-learn's, PyOD's, or one with their methods.

    Its rows are samples in raw units, or `window` of them side by side, oldest first. scikit-learn's scores are large
    where data are normal, PyOD's where they are not; `larger_is` "normal" or "strange" says it where "auto" (whether
    there is a `score_samples`, or the object is an outlier detector of scikit-learn's) would be wrong.
    """

    def __init__(self, detector: Any, window: int = 1, larger_is: str = "auto") -> None:
        self.name = type(detector).__name__
        self.window = window
        found = [name for name in ("score_samples", "decision_function") if callable(getattr(detector, name, None))]
        if not found:
            raise UsageError(f"{self.name} has neither score_samples nor decision_function; give a fitted detector")
        if window < 1:
            raise UsageError(f"window: {window} samples; a row holds at least one")
        if larger_is not in ("auto", "normal", "strange"):
            raise UsageError(f"larger_is: {larger_is!r} is none of auto, normal, strange")
        self._score = getattr(detector, found[0])
        if larger_is == "auto":
            is_normal = found[0] == "score_samples" or getattr(detector, "_estimator_type", "") == "outlier_detector"
        else:
            is_normal = larger_is == "normal"
        self.sign = -1.0 if is_normal else 1.0

    def __call__(self, recording: Recording) -> np.ndarray:
        scores = np.full(len(recording), np.nan)
        for start, end in recording.bounds:
            if end - start < self.window:
                continue
            rows = np.lib.stride_tricks.sliding_window_view(recording.values[start:end], self.window, axis=0)
            rows = rows.transpose(0, 2, 1).reshape(len(rows), -1)  # (rows, window * n)
            found = np.asarray(self._score(rows), np.float64)
            if found.shape != (len(rows),):
                raise UsageError(
                    f"{self.name} gave scores of shape {found.shape} for {len(rows)} rows; it must give one a row"
                )
            if not np.isfinite(found).all():
                row = int(np.flatnonzero(~np.isfinite(found))[0])
                raise UsageError(
                    f"{self.name} gave {found[row]} for sample {start + row + self.window - 1} of {recording.source}; "
                    "a teacher must give a finite score for each, so mend it or fill what it cannot take"
                )
            scores[start + self.window - 1 : end] = self.sign * found
        return scores


class GivenScores:
    """Scores that stand beside one recording; nothing can be said of another."""

    name = "the file of scores"

    def __init__(self, recording: Recording, scores: np.ndarray) -> None:
        self._about, self._scores = recording, scores

    def __call__(self, recording: Recording) -> np.ndarray:
        if recording is not self._about:
            raise UsageError("scores in a file say nothing of other recordings; leave out --outliers")
        return self._scores


def scorers(recording: Recording, how: Training) -> list[Scorer]:
    """The teachers that were given; raises UsageError where there is none."""
    if how.teacher_scores is not None:
        return [GivenScores(recording, how.teacher_scores)]
    found: list[Scorer] = [StepScorer(step, how.workdir) for step in how.teachers]
    found += how.scorers
    if not found:
        raise UsageError(
            "regression trains no teacher of a series by itself; give --teacher X.pt (any student or teacher, for "
            "example of --method linear) or --teacher-scores scores.csv"
        )
    return found


@dataclass(frozen=True)
class Scale:
    """One teacher's scores in deviations of what it says of normal data."""

    log: bool
    """Whether its scores are positive, so that their logarithms are compared."""
    mean: float
    deviation: float

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        values = np.log(np.maximum(scores, TINY)) if self.log else scores
        return (values - self.mean) / self.deviation


class Panel:
    """Several teachers as one, on windows: exp of the mean of their standardized log scores.

    One teacher with positive scores stays as it is, in its own units.
    """

    scales: list[Scale]

    def __init__(self, members: Sequence[Scorer]) -> None:
        self.members = list(members)

    def fit(self, scores: np.ndarray, fitted: np.ndarray) -> None:
        """`scores` (members, W) of the training recording's windows, `fitted` bool (W,) those that train.

        Raises UsageError where a member says the same of all windows, or nothing of any.
        """
        self.scales = []
        for member, row in zip(self.members, scores):
            known = row[fitted & np.isfinite(row)]
            if not len(known):
                raise UsageError(f"{member.name} has no score for the windows that train; score the training recording")
            if np.ptp(known) == 0:
                raise UsageError(
                    f"{member.name} gave the same score, {known[0]:.6g}, for all {len(known)} windows that train; "
                    "nothing can be learned from it"
                )
            log = bool(known.min() > 0)
            values = np.log(known) if log else known
            self.scales.append(Scale(log, float(values.mean()), float(values.std())))

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Scores (members, W) -> the positive score to be learned (W,), NaN where a member says nothing."""
        if len(self.scales) == 1 and self.scales[0].log:
            return np.maximum(scores[0], 0.0)
        total = sum(scale(row) for scale, row in zip(self.scales, scores)) / len(self.scales)
        return np.exp(np.clip(total, -LARGEST_LOG, LARGEST_LOG))


def at_windows(scores: np.ndarray, newest: np.ndarray, hop: int) -> np.ndarray:
    """Scores (T,) of samples, NaN where there is none -> scores of windows (W,) whose newest samples are `newest`.

    A window's verdict speaks for its newest `hop` samples, so it is the mean of what was said in them.
    """
    spoken = scores[np.maximum(newest[:, None] + np.arange(1 - hop, 1), 0)]  # (W, hop)
    known = np.isfinite(spoken)
    count = known.sum(1)
    return np.where(count > 0, np.where(known, spoken, 0.0).sum(1) / np.maximum(count, 1), np.nan)
