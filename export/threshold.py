"""What a threshold of torch's scores is on the scale of an int8 model.

A checkpoint's threshold comes from scores of normal data, for a budget of false alarms or as a quantile of them.
Quantization noise adds to a squared residual and clipped activations take from it, so the same number means another
thing to the int8 model. Its own threshold would follow from *its* scores of the same data; a checkpoint carries that
data only where it lies in the replay stretch, and a maximum hangs on one sample. So the two models are compared step by
step, closed loop, where torch's scores come nearest to the threshold (the highest ones, for a threshold above all of
them), and the threshold is multiplied by the median of their ratios there. Scores of either sign have no ratio: then
the median of the differences is added.
"""

from __future__ import annotations

import numpy as np

NEAREST_SHARE = 0.02  # of the steps: noise weighs less on high scores than on the many near zero ...
NEAREST_STEPS = 21  # ... and so many of them at least, or a single one of them could decide


def nearest(expected: np.ndarray, threshold: float) -> np.ndarray:
    """Indices of the steps that are compared, by torch's scores (V,)."""
    count = min(len(expected), max(NEAREST_STEPS, round(NEAREST_SHARE * len(expected))))
    return np.argsort(np.abs(expected - threshold), kind="stable")[:count]


def same_meaning(expected: np.ndarray, found: np.ndarray, threshold: float) -> float:
    """The threshold of the file's scores `found` (V,) that is `threshold` to torch's scores `expected` (V,).

    It stays where there is nothing to go by: no steps, or scores that are no numbers. Whatever less than half of the
    compared steps do changes nothing.
    """
    chosen = nearest(expected, threshold)
    ours, theirs = found[chosen], expected[chosen]
    if not len(chosen):
        return threshold
    if threshold > 0 and (theirs > 0).all():
        moved = float(threshold * np.median(ours / theirs))
        usable = moved > 0
    else:
        moved = float(threshold + np.median(ours - theirs))
        usable = True
    return moved if usable and np.isfinite(moved) else threshold


def in_words(rule: str, before: float) -> str:
    """The manifest's rule for a threshold that was `before` in torch."""
    return f"{rule}, in torch ({before:.6g}); moved as int8 moves the scores of the normal steps nearest to it"
