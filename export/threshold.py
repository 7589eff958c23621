"""What a threshold of torch's scores is on the scale of an int8 model.

The checkpoint's threshold is 1.5 times the largest score of normal data that did not train. Quantization noise adds to
a squared residual and clipped activations take from it, so the same number means another thing to the int8 model. Its
own threshold would be 1.5 times *its* largest score on the same data; a checkpoint carries that data only where it
lies in the replay stretch, and a maximum hangs on one sample. So the two models are compared step by step, closed loop,
where torch's scores are high: the threshold is multiplied by the median of their ratios there.
"""

from __future__ import annotations

import numpy as np

TAIL_SHARE = 0.02  # the strangest normal steps: noise weighs less on them than on the many near zero ...
TAIL_STEPS = 21  # ... and so many of them at least, or a single one of them could decide


def tail(expected: np.ndarray) -> np.ndarray:
    """Indices of the steps that are compared: the highest of torch's scores (V,)."""
    count = min(len(expected), max(TAIL_STEPS, round(TAIL_SHARE * len(expected))))
    return np.argsort(-expected, kind="stable")[:count]


def same_meaning(expected: np.ndarray, found: np.ndarray) -> float:
    """What a threshold of torch's scores `expected` (V,) is multiplied by for the file's scores `found` (V,).

    1.0 where there is nothing to go by: no steps, or scores that are not positive numbers. A file whose scores are a
    multiple of torch's gets that multiple, whatever less than half of the tail does.
    """
    chosen = tail(expected)
    chosen = chosen[expected[chosen] > 0]
    if not len(chosen):
        return 1.0
    ratio = float(np.median(found[chosen] / expected[chosen]))
    return ratio if np.isfinite(ratio) and ratio > 0 else 1.0


def in_words(rule: str, ratio: float) -> str:
    """The manifest's rule for a threshold that was multiplied by `ratio`."""
    return f"{rule}, in torch; times {ratio:.4f}, the median ratio of int8 to torch on the strangest normal steps"
