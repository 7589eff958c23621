"""For how long each sensor may say the same before it counts as stuck, from normal data alone.

The longest that a sensor stood still in training is no bound by itself: the longest of twice as many stretches is
longer, and where calm nights come in clusters, much. So the bound is MARGIN times that. Fitted on the first 70 % of the
training parts of 14 server machines and 6 application servers, a margin of 2 gave 7 events on the 123 days left,
a margin of 3 none.
"""

from __future__ import annotations

import numpy as np

from edgekd.blocks.threshold import FIT, parts
from edgekd.data.gaps import true_runs
from edgekd.data.recording import Recording

MARGIN = 3.0
LEAST_SAMPLES = 20
"""A sensor that never stood still in training is stuck once it says the same for so many samples."""
FEWEST_VALUES = 10
"""A sensor that has said fewer values is a switch, a setting or constant, which may stand still for ever ..."""
RESTS = 0.25
"""... and so may one that says a single value for more than this share of the training: a pump that is idle, an error
count. On seven server machines all but one of 45 false events were of such sensors."""
LARGEST_SHARE = 0.02
"""Of the training: a bound longer than this was hardly tried there, so the sensor is not watched."""


def longest_still_s(recording: Recording) -> np.ndarray:
    """float64 (n,), seconds for which each sensor may say exactly the same; 0 where it is not to be watched.

    Raw values of the part that trains count, each entity for itself. Images have no time: none of them is watched.
    """
    fit = parts(recording) == FIT
    if recording.frame is not None:
        return np.zeros(recording.n_sensors)
    pairs = fit[1:] & fit[:-1]
    pairs[np.array(recording.starts[1:], int) - 1] = False
    return np.array([_bound(column, fit, pairs) for column in recording.values.T]) * recording.period_s


def _bound(column: np.ndarray, fit: np.ndarray, pairs: np.ndarray) -> int:
    """Samples for one sensor (T,). pairs: bool (T - 1,), where a sample and the next are of one stretch."""
    _, times = np.unique(column[fit], return_counts=True)
    if len(times) < FEWEST_VALUES or times.max() > RESTS * fit.sum():
        return 0
    longest = max((end - start for start, end in true_runs(pairs & (column[1:] == column[:-1]))), default=0)
    bound = max(round(MARGIN * longest), LEAST_SAMPLES)
    return bound if bound <= LARGEST_SHARE * fit.sum() else 0
