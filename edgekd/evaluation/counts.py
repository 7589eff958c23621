"""The decision of MSCRED and of the distilled-MSCRED paper: count the elements of a residual matrix that are too large.

An element is too large where its squared residual exceeds theta, a window is anomalous where more than K elements are.
Published rules: theta = 0.005 and K = 1.5 times the largest count on normal data (MSCRED's code); the distilled-MSCRED
paper names two thresholds, says that they aimed at the highest F1 and gives no rule without labels.
"""

from __future__ import annotations

import numpy as np

REFERENCE_THETA = 0.005  # of MSCRED's code
THETAS = np.append(np.geomspace(1e-5, 1.0, 30), REFERENCE_THETA)
"""The thetas that a search tries, and the published one."""


def exceedances(squared: np.ndarray, thetas: np.ndarray) -> np.ndarray:
    """How many squared residuals of each window lie above each theta.

    squared: float (B, ...), every element of a window's residual matrix; thetas: float (K,). Returns int32 (B, K).
    """
    rows = np.sort(squared.reshape(len(squared), -1), axis=1)
    below = [np.searchsorted(row, thetas.astype(rows.dtype), side="right") for row in rows]
    return (rows.shape[1] - np.array(below, np.int32).reshape(len(rows), len(thetas))).astype(np.int32)
