"""Scores of the training part by detectors that were fitted without it, as they would score what comes later."""

from __future__ import annotations

import numpy as np

from edgekd.blocks.step import Scores
from edgekd.blocks.threshold import FIT, parts
from edgekd.data import Recording
from edgekd.methods.linear.config import LinearConfig
from edgekd.methods.linear.fit import fit_linear
from edgekd.runtime.errors import RecordingError

FOLDS = 4
SEAM = 100  # samples on either side of a fold that do not fit, either


def cross_fitted(recording: Recording, config: LinearConfig, seed: int) -> Scores | None:
    """Scores of each of FOLDS contiguous folds of the training part, by a detector fitted on the others.

    None where what is left is too little to fit one.
    """
    fit = parts(recording) == FIT
    found = []
    for fold in np.array_split(np.flatnonzero(fit), FOLDS):
        others = fit.copy()
        others[max(fold[0] - SEAM, 0) : fold[-1] + 1 + SEAM] = False
        wanted = np.zeros(len(recording), bool)
        wanted[fold] = True
        try:
            found.append(fit_linear(recording, config, seed, others).score(recording, wanted))
        except RecordingError:
            return None
    samples, scores, shares = zip(*((one.samples, one.scores, one.contributions) for one in found))
    return Scores(np.concatenate(samples), np.concatenate(scores), np.concatenate(shares))
